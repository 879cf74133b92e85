/*
 * The least that a UDP name server can cost: one thread, recvfrom and sendto, nothing kept, nothing logged.
 *
 *   echo PORT         turns each query into an empty reply: the floor that servers are measured against
 *   echo PORT answer  answers A and AAAA for any name (address.h) and NODATA for other types: a fast upstream
 *
 * Listens on 127.0.0.1 until it is killed. Reads questions as RFC 1035 section 4.1.2 has them, uncompressed.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "address.h"

enum { HEADER = 12, LONGEST = 4096 };

/* Name: a pointer to the question; type; class IN; TTL 3600, so that no answer ends while a benchmark runs; length. */
static const unsigned char RECORD[] = {0xc0, 0x0c, 0, 0, 0, 1, 0, 0, 0x0e, 0x10, 0, 0};
/* A SOA of the root, so that NODATA may be cached (RFC 2308 section 5). */
static const unsigned char SOA_RECORD[] = {0, 0, 6, 0, 1, 0, 0, 0x0e, 0x10, 0, 22, 0, 0, 0, 0, 0, 1, 0,
                                           0, 0x0e, 0x10, 0, 0, 0x02, 0x58, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10};

/* Returns where the question ends, or 0 when there is none. */
static size_t question_end(const unsigned char *message, size_t length)
{
    size_t at = HEADER;
    while (at < length && message[at] != 0 && message[at] < 64)
        at += message[at] + 1u;
    at += 1 + 4; /* the root label, type and class */
    return at <= length && message[at - 5] == 0 ? at : 0;
}

/* Makes a query into its answer, in place; returns the answer's length, or 0 when it can't be answered. */
static size_t answer(unsigned char *message, size_t length)
{
    size_t end = question_end(message, length);
    if (end == 0)
        return 0;
    unsigned type = (unsigned)message[end - 4] << 8 | message[end - 3];
    unsigned char *record = message + end;
    size_t size = address_of(message + HEADER, end - HEADER - 4, type, record + sizeof RECORD);
    if (size > 0) {
        memcpy(record, RECORD, sizeof RECORD);
        record[3] = (unsigned char)type;
        record[11] = (unsigned char)size;
    } else {
        memcpy(record, SOA_RECORD, sizeof SOA_RECORD);
    }
    message[2] |= 0x80; /* QR */
    message[3] = 0x80;  /* RA, NOERROR */
    memset(message + 6, 0, 6);
    message[size > 0 ? 7 : 9] = 1; /* ANCOUNT or NSCOUNT */
    return end + (size > 0 ? sizeof RECORD + size : sizeof SOA_RECORD);
}

int main(int argc, char **argv)
{
    unsigned char message[LONGEST + 64];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int buffer = 4 << 20;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (argc < 2 || fd < 0)
        return 2;
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("bind");
        return 1;
    }
    for (;;) {
        socklen_t size = sizeof address;
        ssize_t length = recvfrom(fd, message, LONGEST, 0, (struct sockaddr *)&address, &size);
        if (length < HEADER)
            continue;
        if (argc > 2)
            length = (ssize_t)answer(message, (size_t)length);
        else
            message[2] |= 0x80;
        if (length > 0)
            sendto(fd, message, (size_t)length, 0, (struct sockaddr *)&address, size);
    }
}
