/*
 * A load of DNS queries over UDP from many clients, each answer timed.
 *
 *   load -p PORT -d FILE -l SECONDS -q OUTSTANDING   closed: so many wait for their answers at any time
 *   load -p PORT -d FILE -l SECONDS -Q RATE          open: so many leave each second, whatever comes back
 *
 * FILE holds prepared queries, one behind the other: the client's address (4 octets), the query's length (2 octets,
 * most significant first; the first bit says that the name must be sunk), the query. With -1 each is sent once,
 * otherwise from the first again until the time is up. IDs are set here.
 *
 * With -c OUTCOMES (and -1) each answer is read: it must repeat the question and hold the address that echo.c has for
 * the name, or the unspecified one where the name must be sunk; or SERVFAIL, which whoever started us must judge. The
 * first answers that are wrong are printed on stderr. OUTCOMES gets an octet a query: its answer's rcode, NO_ANSWER
 * where none came, and WRONG added where the answer was.
 *
 * The server is on 127.0.0.1 and clients are in 127.0.0.0/8: nothing else is ever a target.
 *
 * One socket is enough for any number of clients, as IP_PKTINFO says for each datagram where it comes from. In an open
 * load the nth query is due n/RATE seconds after the first and its latency counts from then, even when it could leave
 * only later, so that a server's pause is seen by every query that would have met it. Arrivals are the kernel's time
 * stamps: what the client's own CPU does meanwhile isn't counted.
 *
 * Prints one JSON object: counts, seconds from the first query to the last answer, latencies in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "address.h"

enum { HEADER = 12, LONGEST_QUERY = 1232, LONGEST_ANSWER = 1232, BATCH = 64, IDS = 65536, RCODES = 16 };
enum { SUNK = 0x8000, NOERROR = 0, SERVFAIL = 2, NO_ANSWER = 255, WRONG = 128, SHOWN = 10 };
enum { SECOND = 1000000000, LOST_AFTER = 2 * SECOND, BUFFER = 16 << 20, MOST_ANSWERS = 20000000 };

struct query {
    uint32_t client; /* in the network's order */
    uint16_t length;
    bool sunk;
    const unsigned char *wire;
};

struct slot {
    uint64_t due;
    const struct query *query;
    bool waiting;
};

union control {
    char octets[CMSG_SPACE(sizeof(struct in_pktinfo)) + CMSG_SPACE(sizeof(struct timespec))];
    struct cmsghdr aligned;
};

static struct query *queries;
static size_t query_count;

/* Queries are numbered as they leave; a query's ID is the end of its number. */
static struct slot slots[IDS];
static uint64_t sent, oldest, in_flight;

static uint32_t *latencies; /* nanoseconds, at most LOST_AFTER */
static uint64_t answered, lost, unexpected, wrong, rcodes[RCODES], first_sent, last_arrived;
static unsigned char *outcomes; /* of each query; NULL: answers aren't read */

static void fail(const char *what)
{
    fprintf(stderr, "load: %s\n", what);
    exit(2);
}

static void check(bool good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1);
    }
}

/* The wall clock, as the kernel's time stamps have it. */
static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static void read_queries(const char *path)
{
    FILE *file = fopen(path, "rb");
    check(file != NULL, path);
    check(fseek(file, 0, SEEK_END) == 0, path);
    long size = ftell(file);
    rewind(file);
    unsigned char *octets = malloc((size_t)size + 1);
    check(octets != NULL && fread(octets, 1, (size_t)size, file) == (size_t)size, path);
    fclose(file);
    queries = calloc((size_t)size / (6 + HEADER) + 1, sizeof *queries);
    check(queries != NULL, "memory");
    for (long at = 0; at < size; query_count++) {
        struct query *query = &queries[query_count];
        if (size - at < 6 + HEADER || octets[at] != 127)
            fail("a query is cut short, or its client is not in 127.0.0.0/8");
        memcpy(&query->client, octets + at, 4);
        query->length = (uint16_t)(octets[at + 4] << 8 | octets[at + 5]);
        query->sunk = query->length & SUNK;
        query->length &= (uint16_t)~SUNK;
        query->wire = octets + at + 6;
        at += 6 + query->length;
        if (query->length < HEADER || query->length > LONGEST_QUERY || at > size)
            fail("a query's length is wrong");
    }
    if (query_count == 0)
        fail("no queries");
}

static int open_socket(void)
{
    int on = 1, size = BUFFER;
    struct sockaddr_in any = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    check(fd >= 0, "socket");
    /* On every address, so that answers to any client arrive; on the loopback device, so that nothing else does. */
    check(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0, "SO_BINDTODEVICE");
    check(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) == 0, "SO_TIMESTAMPNS");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    check(bind(fd, (struct sockaddr *)&any, sizeof any) == 0, "bind");
    return fd;
}

static void lose(struct slot *slot)
{
    if (slot->waiting) {
        slot->waiting = false;
        in_flight--;
        lost++;
    }
}

/* What no answer came to for too long is lost; numbers below `oldest` are all done with. */
static void give_up(uint64_t time)
{
    if (sent - oldest > IDS)
        oldest = sent - IDS;
    for (; oldest < sent; oldest++) {
        struct slot *slot = &slots[oldest % IDS];
        if (slot->waiting && slot->due + LOST_AFTER > time)
            return;
        lose(slot);
    }
}

/* Sends the next queries, at most BATCH: the nth is due `first_due` plus n times `interval`. */
static void send_batch(int fd, struct sockaddr_in *server, unsigned count, uint64_t first_due, double interval)
{
    static struct mmsghdr messages[BATCH];
    static struct iovec parts[BATCH][2];
    static union control controls[BATCH];
    static uint16_t ids[BATCH];

    for (unsigned i = 0; i < count; i++, sent++) {
        const struct query *query = &queries[sent % query_count];
        struct slot *slot = &slots[sent % IDS];
        struct msghdr *message = &messages[i].msg_hdr;
        ids[i] = htons((uint16_t)sent);
        parts[i][0] = (struct iovec){&ids[i], 2};
        parts[i][1] = (struct iovec){(void *)(query->wire + 2), query->length - 2u};
        *message = (struct msghdr){server, sizeof *server, parts[i], 2, &controls[i],
                                   CMSG_SPACE(sizeof(struct in_pktinfo)), 0};
        struct cmsghdr *header = CMSG_FIRSTHDR(message);
        header->cmsg_level = IPPROTO_IP;
        header->cmsg_type = IP_PKTINFO;
        header->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
        *(struct in_pktinfo *)CMSG_DATA(header) = (struct in_pktinfo){.ipi_spec_dst.s_addr = query->client};
        lose(slot); /* its ID is needed again */
        *slot = (struct slot){first_due + (uint64_t)(i * interval), query, true};
        in_flight++;
    }
    for (unsigned done = 0; done < count;) {
        int written = sendmmsg(fd, messages + done, count - done, 0);
        check(written > 0 || errno == EINTR, "sendmmsg");
        done += written > 0 ? (unsigned)written : 0;
    }
}

static unsigned number_at(const unsigned char *octets)
{
    return (unsigned)octets[0] << 8 | octets[1];
}

/* Tells whether an answer is one to the query, and the one that its name must get. */
static bool is_right(const struct query *query, const unsigned char *answer, size_t length)
{
    size_t end = HEADER;
    while (end < query->length && query->wire[end] != 0)
        end += query->wire[end] + 1u;
    end += 1 + 4; /* the root label, type and class */
    if (end > query->length || end > length || answer[2] & 2 || number_at(answer + 4) != 1 ||
        memcmp(answer + HEADER, query->wire + HEADER, end - HEADER) != 0)
        return false;
    unsigned rcode = answer[3] & 15u, answers = number_at(answer + 6), type = number_at(answer + end - 4);
    if (rcode != NOERROR)
        return rcode == SERVFAIL && !query->sunk && answers == 0;
    unsigned char address[ADDRESS] = {0};
    size_t size = address_of(answer + HEADER, end - HEADER - 4, type, address);
    if (size == 0)
        return answers == 0;
    if (query->sunk)
        memset(address, 0, sizeof address);
    const unsigned char *record = answer + end;
    return answers == 1 && length >= end + 12 + size && number_at(record) == 0xc00c && number_at(record + 2) == type &&
           number_at(record + 10) == size && memcmp(record + 12, address, size) == 0;
}

static void show(const char *what, const unsigned char *octets, size_t length)
{
    fprintf(stderr, "%s", what);
    for (size_t at = 0; at < length; at++)
        fprintf(stderr, "%02x", octets[at]);
}

static void judge(const struct query *query, const unsigned char *answer, size_t length)
{
    bool right = is_right(query, answer, length);
    outcomes[query - queries] = (unsigned char)((answer[3] & 15) | (right ? 0 : WRONG));
    if (right || wrong++ >= SHOWN)
        return;
    show(query->sunk ? "not sunk: " : "wrong: ", query->wire, query->length);
    show(" was answered ", answer, length);
    fprintf(stderr, "\n");
}

/* Notes an answer; only its header was read, unless answers are judged. */
static void take(const unsigned char *answer, size_t length, uint64_t arrived)
{
    uint16_t id = (uint16_t)(answer[0] << 8 | answer[1]);
    struct slot *slot = &slots[id];
    if (length < HEADER || !(answer[2] & 0x80) || !slot->waiting) {
        unexpected++;
        return;
    }
    slot->waiting = false;
    in_flight--;
    rcodes[answer[3] & 15]++;
    last_arrived = arrived;
    if (outcomes != NULL)
        judge(slot->query, answer, length);
    /* The wall clock may have been set back a little. */
    uint64_t took = arrived > slot->due ? arrived - slot->due : 0;
    if (answered < MOST_ANSWERS)
        latencies[answered++] = (uint32_t)(took < LOST_AFTER ? took : LOST_AFTER);
}

/* Takes what has come, at most BATCH; returns how many. */
static int receive_batch(int fd)
{
    static struct mmsghdr messages[BATCH];
    static struct iovec parts[BATCH];
    static union control controls[BATCH];
    static unsigned char answers[BATCH][LONGEST_ANSWER];

    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){answers[i], outcomes == NULL ? HEADER : LONGEST_ANSWER};
        messages[i].msg_hdr = (struct msghdr){NULL, 0, &parts[i], 1, &controls[i], sizeof controls[i], 0};
    }
    int count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
    check(count >= 0 || errno == EAGAIN || errno == EINTR, "recvmmsg");
    for (int i = 0; i < count; i++) {
        struct timespec *stamp = NULL;
        struct msghdr *message = &messages[i].msg_hdr;
        for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header))
            if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_TIMESTAMPNS)
                stamp = (struct timespec *)CMSG_DATA(header);
        take(answers[i], messages[i].msg_len,
             stamp ? (uint64_t)stamp->tv_sec * SECOND + (uint64_t)stamp->tv_nsec : now());
    }
    return count;
}

static void wait_until(int fd, uint64_t due, uint64_t time)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    uint64_t left = due > time ? due - time : 0;
    struct timespec timeout = {(time_t)(left / SECOND), (long)(left % SECOND)};
    ppoll(&readable, 1, &timeout, NULL);
}

/* Sends and receives until the time is up, or `most` were sent, and all have their answers or are lost. */
static void run(int fd, struct sockaddr_in *server, double seconds, uint64_t outstanding, double rate, uint64_t most)
{
    uint64_t begin = first_sent = now(), end = begin + (uint64_t)(seconds * SECOND);
    double interval = rate > 0 ? SECOND / rate : 0;
    for (;;) {
        uint64_t time = now(), due = time + LOST_AFTER;
        bool sending = time < end && sent < most;
        if (sending) {
            uint64_t next = rate > 0 ? begin + (uint64_t)((double)sent * interval) : time;
            uint64_t count = rate > 0 ? (time >= next ? (uint64_t)((double)(time - next) / interval) + 1 : 0)
                                      : outstanding - in_flight;
            count = count < BATCH ? count : BATCH;
            count = count < most - sent ? count : most - sent;
            if (count > 0)
                send_batch(fd, server, (unsigned)count, next, interval);
            if (rate > 0)
                due = begin + (uint64_t)((double)sent * interval);
        }
        int received = receive_batch(fd);
        give_up(time);
        if (!sending && in_flight == 0)
            return;
        if (received <= 0)
            wait_until(fd, due < time + SECOND / 10 ? due : time + SECOND / 10, time);
    }
}

static int ascending(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

/* Returns the latency that so many of a thousand answers kept to, in microseconds. */
static double within(uint64_t thousandths)
{
    if (answered == 0)
        return 0;
    uint64_t rank = (answered * thousandths + 999) / 1000;
    return latencies[rank - 1] / 1000.0;
}

static void report(void)
{
    qsort(latencies, answered, sizeof *latencies, ascending);
    double seconds = last_arrived > first_sent ? (double)(last_arrived - first_sent) / SECOND : 0;
    printf("{\"sent\": %lu, \"answered\": %lu, \"lost\": %lu, \"unexpected\": %lu, \"seconds\": %.6f, \"rcodes\": {",
           sent, answered, lost, unexpected, seconds);
    const char *comma = "";
    for (int rcode = 0; rcode < RCODES; rcode++)
        if (rcodes[rcode] > 0) {
            printf("%s\"%d\": %lu", comma, rcode, rcodes[rcode]);
            comma = ", ";
        }
    printf("}, \"wrong\": %lu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n", wrong,
           within(500), within(990), within(999), within(1000));
}

static void write_outcomes(const char *path)
{
    FILE *file = fopen(path, "wb");
    check(file != NULL && fwrite(outcomes, 1, query_count, file) == query_count && fclose(file) == 0, path);
}

int main(int argc, char **argv)
{
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *path = NULL, *outcomes_path = NULL;
    double seconds = 0, rate = 0;
    long outstanding = 0;
    bool once = false;
    for (int option; (option = getopt(argc, argv, "p:d:l:q:Q:c:1")) != -1;)
        switch (option) {
        case 'p': server.sin_port = htons((uint16_t)atoi(optarg)); break;
        case 'd': path = optarg; break;
        case 'l': seconds = atof(optarg); break;
        case 'q': outstanding = atol(optarg); break;
        case 'Q': rate = atof(optarg); break;
        case 'c': outcomes_path = optarg; break;
        case '1': once = true; break;
        default: return 2;
        }
    if (server.sin_port == 0 || path == NULL || seconds <= 0 || seconds > 600)
        fail("a port, a file and at most 600 seconds are needed");
    if ((outstanding > 0) == (rate > 0) || outstanding < 0 || outstanding > IDS / 2 || rate < 0 || rate > 1e6)
        fail("either -q, up to 32768, or -Q, up to a million, is needed");
    if (outcomes_path != NULL && !once)
        fail("-c needs -1");
    read_queries(path);
    if (outcomes_path != NULL) {
        outcomes = malloc(query_count);
        check(outcomes != NULL, "memory");
        memset(outcomes, NO_ANSWER, query_count);
    }
    latencies = malloc(MOST_ANSWERS * sizeof *latencies); /* the kernel gives what is written to */
    check(latencies != NULL, "memory");
    prctl(PR_SET_TIMERSLACK, 1); /* nanoseconds: by default a timer may be 50 us late */
    run(open_socket(), &server, seconds, (uint64_t)outstanding, rate, once ? query_count : UINT64_MAX);
    if (outcomes_path != NULL)
        write_outcomes(outcomes_path);
    report();
    return 0;
}
