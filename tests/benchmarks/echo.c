/*
 * The least that a UDP name server can cost: one thread, recvfrom and sendto, nothing kept, nothing logged.
 *
 *   echo PORT         turns each query into an empty reply: the floor that servers are measured against
 *   echo PORT answer  answers A and AAAA for any name and NODATA for other types: a fast upstream
 *
 * Listens on 127.0.0.1 until it is killed. Reads questions as RFC 1035 section 4.1.2 has them, uncompressed.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { HEADER = 12, LONGEST = 4096, TYPE_A = 1, TYPE_AAAA = 28 };

/* Name: a pointer to the question; class IN; TTL 3600, so that no answer ends while a benchmark runs. */
static const unsigned char A_RECORD[] = {0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4, 192, 0, 2, 1};
static const unsigned char AAAA_RECORD[] = {0xc0, 0x0c, 0, 28, 0, 1, 0, 0, 0x0e, 0x10, 0, 16, 0x20, 0x01,
                                            0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
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
    const unsigned char *record = type == TYPE_A ? A_RECORD : type == TYPE_AAAA ? AAAA_RECORD : SOA_RECORD;
    size_t size = type == TYPE_A ? sizeof A_RECORD : type == TYPE_AAAA ? sizeof AAAA_RECORD : sizeof SOA_RECORD;
    memcpy(message + end, record, size);
    message[2] |= 0x80; /* QR */
    message[3] = 0x80;  /* RA, NOERROR */
    memset(message + 6, 0, 6);
    message[record == SOA_RECORD ? 9 : 7] = 1; /* NSCOUNT or ANCOUNT */
    return end + size;
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
