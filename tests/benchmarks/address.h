/*
 * The address that echo.c answers with and load.c expects: a function of the name, so that an answer to another
 * question is seen to be one. Both need a name in lower case or not, and uncompressed (RFC 1035 section 3.1).
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { TYPE_A = 1, TYPE_AAAA = 28, ADDRESS = 16 };

/* FNV-1a of 32 bits over the name's octets, capitals as small letters: resolvers ask in random case. */
static inline uint32_t hash_of(const unsigned char *name, size_t length)
{
    uint32_t hash = 2166136261u;
    for (size_t at = 0; at < length; at++) {
        unsigned char octet = name[at];
        hash = (hash ^ (octet >= 'A' && octet <= 'Z' ? octet | 0x20u : octet)) * 16777619u;
    }
    return hash;
}

/* Writes the name's address of this type, out of the ranges for documentation, and returns its length; 0: it has none. */
static inline size_t address_of(const unsigned char *name, size_t length, unsigned type, unsigned char address[ADDRESS])
{
    static const unsigned char networks[3][3] = {{192, 0, 2}, {198, 51, 100}, {203, 0, 113}};
    static const unsigned char prefix[12] = {0x20, 0x01, 0x0d, 0xb8};
    uint32_t hash = hash_of(name, length);
    if (type == TYPE_A) {
        memcpy(address, networks[hash % 3], 3);
        address[3] = (unsigned char)(hash >> 8);
        return 4;
    }
    if (type != TYPE_AAAA)
        return 0;
    memcpy(address, prefix, sizeof prefix);
    for (int at = 0; at < 4; at++)
        address[12 + at] = (unsigned char)(hash >> (24 - 8 * at));
    return 16;
}
