"""Pure decisions: names, clients, categories, exceptions -> Verdict. No I/O and no clock.

Owns what a rule means and who wins. Must not know where rules come from, nor how an answer is sent.
"""
