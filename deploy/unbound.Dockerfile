# Unbound from Debian, under its own user, for docker-compose.yml.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates dns-root-data unbound unbound-anchor \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner unbound --group unbound --mode 0750 /var/lib/unbound
USER unbound
WORKDIR /var/lib/unbound
VOLUME /var/lib/unbound
EXPOSE 5335/udp 5335/tcp
# The root's key is fetched anew where it changed while nobody was here to follow; what unbound-anchor returns tells
# that, not whether there is a key.
CMD ["sh", "-c", "unbound-anchor -a root.key; exec unbound -d -c /etc/unbound/unbound.conf"]
