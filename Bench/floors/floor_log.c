// floor_log - the least that a durable queue can cost.
//
//     floor_log PORT FOLDER [uring|thread]
//
// STOMP, as far as `stampede-bench durable` speaks it: CONNECT, SUBSCRIBE to a queue, SEND and ACK. The consumers of a
// queue get its messages in turn. A SEND with `persistent:true` is appended to a log, and its RECEIPT leaves when the
// log is on stable storage up to there. Any other SEND has its RECEIPT at once. It validates nothing, keeps no messages
// (what nobody consumes is dropped), and never reads its log: it is no broker but a yardstick.
//
// Group commit: while a group is being written, what arrives gathers for the next one. Acknowledgements promise nothing
// to anybody, so they start no group: they go with the next one, or after LAZY_MILLISECONDS.
//
//     | group                                             | group ...
//     | record | record | ... | acknowledgements | zeros  |
//     record: | byte count: 4 | type: 4 | id: 8 | 0: 16 | the frame from its destination to its NUL | zeros to 64 |
//
// One thread does everything but the write, which is a request to the kernel (io_uring), or a second thread's.
#define _GNU_SOURCE
#include "log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    GROUP_BYTES_MAX = 64 << 20, // Beyond it nothing is received until the group under way is on the disk.
    RECEIVE_BYTES = 256 << 10,
    RECORD_ALIGNMENT = 64,
    RECORD_HEADER_BYTES = 32,
    QUEUES_MAX = 1024,
    EVENTS_MAX = 256,
    ID_DIGITS = 16,
    LAZY_MILLISECONDS = 5,
};
enum { RECORD_MESSAGE = 1, RECORD_ACKNOWLEDGEMENTS = 2 };

struct queue {
    char name[128], head[256];
    size_t name_count, head_count, body_count;
    struct connection **consumers;
    unsigned consumer_count, consumer_capacity, turn;
};

struct connection {
    int fd;
    unsigned receipts_waiting; // Freed when the last of them is answered.
    bool is_dead, is_listed, awaits_room;
    struct queue *consumed;
    struct bytes in, out; // An incomplete frame; what is to be sent from `out_sent` on.
    size_t out_sent;
    // The headers of the last SEND behind its receipt, and what they say.
    char head[256];
    size_t head_count;
    struct queue *head_queue;
    bool head_is_persistent;
};

struct waiting_receipt { struct connection *connection; size_t id_count; }; // Then the id.

struct group { struct bytes records, receipts, acknowledged; };

static struct group groups[2], *gathering = &groups[0], *writing;
static struct queue *queues[QUEUES_MAX];
static struct connection **to_send;
static unsigned to_send_count, to_send_capacity;
static uint64_t next_id = 1;
static uint64_t lazy_since; // When what asks for no receipt began to gather. 0: nothing does.
static int listener, epoll_fd, log_done;

static void add_record(uint32_t type, uint64_t id, const void *payload, size_t count) {
    size_t whole = (RECORD_HEADER_BYTES + count + RECORD_ALIGNMENT - 1) / RECORD_ALIGNMENT * RECORD_ALIGNMENT;
    char *record = extend(&gathering->records, whole);
    uint32_t byte_count = (uint32_t)count;
    memcpy(record, &byte_count, 4);
    memcpy(record + 4, &type, 4);
    memcpy(record + 8, &id, 8);
    memset(record + 16, 0, RECORD_HEADER_BYTES - 16);
    memcpy(record + RECORD_HEADER_BYTES, payload, count);
    memset(record + RECORD_HEADER_BYTES + count, 0, whole - RECORD_HEADER_BYTES - count);
}

static uint64_t milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

// Starts to write what gathered, if no group is under way and a receipt or the time demands it.
static void commit(void) {
    struct bytes *acknowledged = &gathering->acknowledged, *records = &gathering->records;
    if (writing || (!records->count && !acknowledged->count)) return;
    if (!gathering->receipts.count) {
        uint64_t now = milliseconds();
        if (!lazy_since) lazy_since = now;
        if (now - lazy_since < LAZY_MILLISECONDS) return;
    }
    lazy_since = 0;
    if (acknowledged->count) add_record(RECORD_ACKNOWLEDGEMENTS, 0, acknowledged->base, acknowledged->count);
    acknowledged->count = 0;
    writing = gathering;
    gathering = &groups[writing == &groups[0]];
    log_write(&writing->records);
}

// --- STOMP -----------------------------------------------------------------------------------------------------------

static char *say(struct connection *c, size_t count) {
    if (!c->is_listed && !c->awaits_room) {
        c->is_listed = true;
        if (to_send_count == to_send_capacity) {
            to_send_capacity = to_send_capacity * 2 + 64;
            to_send = realloc(to_send, to_send_capacity * sizeof *to_send);
            if (!to_send) die("memory");
        }
        to_send[to_send_count++] = c;
    }
    return extend(&c->out, count);
}

static void say_receipt(struct connection *c, const char *id, size_t id_count) {
    static const char start[] = "RECEIPT\nreceipt-id:";
    char *to = say(c, sizeof start - 1 + id_count + 3);
    memcpy(to, start, sizeof start - 1);
    memcpy(to + sizeof start - 1, id, id_count);
    memcpy(to + sizeof start - 1 + id_count, "\n\n", 3);
}

// The group under way is on stable storage: its receipts leave.
static void committed(void) {
    const char *next = writing->receipts.base, *end = next + writing->receipts.count;
    while (next < end) {
        struct waiting_receipt receipt;
        memcpy(&receipt, next, sizeof receipt);
        receipt.connection->receipts_waiting--;
        if (!receipt.connection->is_dead) say_receipt(receipt.connection, next + sizeof receipt, receipt.id_count);
        else if (!receipt.connection->receipts_waiting) free(receipt.connection);
        next += sizeof receipt + receipt.id_count;
    }
    writing->records.count = writing->receipts.count = 0;
    writing = NULL;
}

static struct queue *find_queue(const char *name, size_t count) {
    unsigned place = 5381;
    for (size_t i = 0; i < count; i++) place = place * 33 + (unsigned char)name[i];
    for (unsigned tries = 0; tries < QUEUES_MAX && count < sizeof(struct queue){0}.name; tries++, place++) {
        struct queue **q = &queues[place % QUEUES_MAX];
        if (!*q) {
            *q = calloc(1, sizeof **q);
            if (!*q) die("memory");
            memcpy((*q)->name, name, count);
            (*q)->name_count = count;
        }
        if ((*q)->name_count == count && !memcmp((*q)->name, name, count)) return *q;
    }
    return NULL;
}

// The value of a header, or NULL. `end` is behind the headers.
static const char *header(const char *name, const char *start, const char *end, size_t *count) {
    const char *value = memmem(start, (size_t)(end - start), name, strlen(name));
    if (!value) return NULL;
    value += strlen(name);
    const char *line_end = memchr(value, '\n', (size_t)(end - value));
    if (!line_end) return NULL;
    *count = (size_t)(line_end - value);
    return value;
}

static void write_id(char *digits, uint64_t id) {
    for (int place = ID_DIGITS - 1; place >= 0; place--, id >>= 4) digits[place] = "0123456789abcdef"[id & 15];
}

// `id` 0: what is not stored. Ids have always the same length, as the load generator likes it.
static void deliver(struct queue *q, uint64_t id, const char *body, size_t body_count) {
    static const char id_start[] = "MESSAGE\nsubscription:1\nack:";
    if (!q->consumer_count) return;
    if (!q->head_count || q->body_count != body_count) {
        q->head_count = (size_t)snprintf(q->head, sizeof q->head,
            "%s0000000000000000\nmessage-id:0\ndestination:%.*s\ncontent-length:%zu\n\n", id_start,
            (int)q->name_count, q->name, body_count);
        q->body_count = body_count;
    }
    write_id(q->head + sizeof id_start - 1, id);
    char *to = say(q->consumers[q->turn++ % q->consumer_count], q->head_count + body_count + 1);
    memcpy(to, q->head, q->head_count);
    memcpy(to + q->head_count, body, body_count + 1);
}

static bool read_head(struct connection *c, const char *start, const char *end) {
    const char *head_end = memmem(start, (size_t)(end - start), "\n\n", 2);
    size_t count;
    if (!head_end || (size_t)(head_end + 2 - start) > sizeof c->head) return false;
    const char *name = header("destination:", start, head_end + 1, &count);
    if (!name || !(c->head_queue = find_queue(name, count))) return false;
    c->head_is_persistent = header("persistent:true", start, head_end + 1, &count) != NULL;
    c->head_count = (size_t)(head_end + 2 - start);
    memcpy(c->head, start, c->head_count);
    return true;
}

static bool on_send(struct connection *c, const char *start, const char *end) {
    const char *receipt = NULL, *next = start + sizeof "SEND";
    size_t receipt_count = 0;
    if (!strncmp(next, "receipt:", 8)) {
        receipt = header("receipt:", next, end, &receipt_count);
        if (!receipt) return false;
        next = receipt + receipt_count + 1;
    }
    bool is_known = c->head_count && (size_t)(end - next) >= c->head_count && !memcmp(next, c->head, c->head_count);
    if (!is_known && !read_head(c, next, end)) return false;
    const char *body = next + c->head_count;
    uint64_t id = c->head_is_persistent ? next_id++ : 0;
    deliver(c->head_queue, id, body, (size_t)(end - body));
    if (!c->head_is_persistent) {
        if (receipt) say_receipt(c, receipt, receipt_count);
        return true;
    }
    add_record(RECORD_MESSAGE, id, next, (size_t)(end + 1 - next));
    if (receipt) {
        struct waiting_receipt waiting = {c, receipt_count};
        char *to = extend(&gathering->receipts, sizeof waiting + receipt_count);
        memcpy(to, &waiting, sizeof waiting);
        memcpy(to + sizeof waiting, receipt, receipt_count);
        c->receipts_waiting++;
    }
    return true;
}

static bool on_subscribe(struct connection *c, const char *start, const char *end) {
    size_t count;
    const char *name = header("\ndestination:", start, end, &count);
    struct queue *q = name && !c->consumed ? find_queue(name, count) : NULL;
    if (!q) return false;
    c->consumed = q;
    if (q->consumer_count == q->consumer_capacity) {
        q->consumer_capacity = q->consumer_capacity * 2 + 8;
        q->consumers = realloc(q->consumers, q->consumer_capacity * sizeof *q->consumers);
        if (!q->consumers) die("memory");
    }
    q->consumers[q->consumer_count++] = c;
    const char *receipt = header("\nreceipt:", start, end, &count);
    if (receipt) say_receipt(c, receipt, count);
    return true;
}

// Returns false for what it does not understand. `*end` is the NUL.
static bool on_frame(struct connection *c, const char *start, const char *end) {
    static const char connected[] = "CONNECTED\nversion:1.2\nheart-beat:0,0\n\n";
    if (!strncmp(start, "SEND\n", 5)) return on_send(c, start, end);
    if (!strncmp(start, "ACK\nid:", 7)) {
        uint64_t id = strtoull(start + 7, NULL, 16);
        if (id) memcpy(extend(&gathering->acknowledged, sizeof id), &id, sizeof id);
        return true;
    }
    if (!strncmp(start, "SUBSCRIBE\n", 10)) return on_subscribe(c, start, end);
    if (strncmp(start, "CONNECT\n", 8)) return false;
    memcpy(say(c, sizeof connected), connected, sizeof connected);
    return true;
}

// --- Connections -----------------------------------------------------------------------------------------------------

static void leave(struct connection *c) {
    struct queue *q = c->consumed;
    for (unsigned i = 0; q && i < q->consumer_count; i++)
        if (q->consumers[i] == c) q->consumers[i--] = q->consumers[--q->consumer_count];
    for (unsigned i = 0; i < to_send_count; i++)
        if (to_send[i] == c) to_send[i--] = to_send[--to_send_count];
    close(c->fd);
    free(c->in.base);
    free(c->out.base);
    c->is_dead = true;
    if (!c->receipts_waiting) free(c);
}

static bool parse(struct connection *c, const char *bytes, size_t count) {
    bool had_part = c->in.count > 0;
    if (had_part) {
        memcpy(extend(&c->in, count), bytes, count);
        bytes = c->in.base;
        count = c->in.count;
    }
    const char *end = bytes + count, *nul;
    for (;;) {
        while (bytes < end && *bytes == '\n') bytes++;
        if (bytes == end || !(nul = memchr(bytes, 0, (size_t)(end - bytes)))) break;
        if (!on_frame(c, bytes, nul)) return false;
        bytes = nul + 1;
    }
    size_t rest = (size_t)(end - bytes);
    c->in.count = had_part ? rest : 0;
    if (had_part) memmove(c->in.base, bytes, rest);
    else if (rest) memcpy(extend(&c->in, rest), bytes, rest);
    return true;
}

static void send_out(struct connection *c) {
    ssize_t count = send(c->fd, c->out.base + c->out_sent, c->out.count - c->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) c->out_sent += (size_t)count;
    if (c->out_sent == c->out.count) c->out_sent = c->out.count = 0;
    bool awaits_room = c->out.count > 0; // After another error than EAGAIN, the receive ends the connection.
    if (awaits_room != c->awaits_room) {
        struct epoll_event event = {.events = EPOLLIN | (awaits_room ? EPOLLOUT : 0u), .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
        c->awaits_room = awaits_room;
    }
}

static void on_event(struct connection *c, unsigned events) {
    static char received[RECEIVE_BYTES];
    if (events & EPOLLOUT) send_out(c);
    if (!(events & ~(unsigned)EPOLLOUT)) return;
    ssize_t count = recv(c->fd, received, sizeof received, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0 || !parse(c, received, (size_t)count)) leave(c);
}

static void watch(int fd, void *what) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static void accept_one(void) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *c = calloc(1, sizeof *c);
    if (!c) die("memory");
    c->fd = fd;
    watch(fd, c);
}

static void listen_on(const char *port) {
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (const struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) die(port);
}

static void turn(void) {
    struct epoll_event events[EVENTS_MAX];
    int count = 0;
    if (writing && gathering->records.count > GROUP_BYTES_MAX)
        poll(&(struct pollfd){.fd = log_done, .events = POLLIN}, 1, -1);
    else
        count = epoll_wait(epoll_fd, events, EVENTS_MAX, lazy_since ? LAZY_MILLISECONDS : -1);
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == &listener) accept_one();
        else if (events[i].data.ptr != &log_done) on_event(events[i].data.ptr, events[i].events);
    }
    if (writing && log_has_written()) committed();
    // The disk begins first: it works while the sends are made.
    commit();
    for (unsigned i = 0; i < to_send_count; i++) {
        to_send[i]->is_listed = false;
        send_out(to_send[i]);
    }
    to_send_count = 0;
}

int main(int argc, char **argv) {
    bool with_ring = argc < 4 || !strcmp(argv[3], "uring");
    if (argc < 3 || argc > 4 || (!with_ring && strcmp(argv[3], "thread"))) {
        fprintf(stderr, "usage: floor_log PORT FOLDER [uring|thread]\n");
        return 2;
    }
    log_done = log_open(argv[2], with_ring);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    listen_on(argv[1]);
    watch(listener, &listener);
    watch(log_done, &log_done);
    for (;;) turn();
}
