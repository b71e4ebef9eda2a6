/* SPDX-License-Identifier: MIT */
/* Packets through a batch and over a real pair of UDP sockets, read back by the receiving side's own parts: crypt, then
 * FEC. */
#include <stdlib.h>
#include <unistd.h>

#include "crypt/block.h"
#include "check.h"
#include "base/err.h"
#include "arq/kcp.h"
#include "wire/wire.h"
#include "base/octets.h"

enum { PACKETS = 400, DS = 10, PS = 3, BYTES_MOST = 640 };

typedef struct {
    ks_link link;      /* connected to `far` */
    int far;
    ks_fec_code *code;
    ks_fec_encoder *fec;
    ks_route route;
    ks_counters count;
    ks_batch *batch;
    uint32_t refused;
    ks_crypt *opener;  /* the far end's crypt, and its decoder */
    ks_fec_decoder *decoder;
    ks_pool blocks;
} pipe_end;

static pipe_end *current;

static void on_refused(ks_link *link)
{
    current->refused += link == &current->link;
}

static int bound_socket(ks_addr *name)
{
    socklen_t len = sizeof *name;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = 1 << 20;
    memset(name, 0, sizeof *name);
    name->in4.sin_family = AF_INET;
    name->in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (bind(fd, &name->sa, sizeof name->in4) < 0 || getsockname(fd, &name->sa, &len) < 0)
        abort();
    return fd;
}

static ks_crypt *crypt_of(ks_crypt_mode mode)
{
    uint8_t key[32];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 11 + 3);
    bool with_block = mode == KS_CRYPT_CFB || mode == KS_CRYPT_GCM;
    return ks_crypt_new(mode, key, with_block || mode == KS_CRYPT_NONE ? 0 : sizeof key,
                        with_block ? ks_twofish_new(key, sizeof key) : NULL);
}

/* mode -1: no crypt. */
static void open_pipe(pipe_end *p, ks_udp_way way, int mode, bool fec, uint32_t dup)
{
    ks_addr far, near;
    memset(p, 0, sizeof *p);
    p->far = bound_socket(&far);
    int fd = bound_socket(&near);
    if (connect(fd, &far.sa, sizeof far.in4) < 0 || ks_udp_init(&p->link.udp, fd, way, 1 << 20, 0) < 0)
        abort();
    p->link.crypt = mode < 0 ? NULL : crypt_of((ks_crypt_mode)mode);
    p->opener = mode < 0 ? NULL : crypt_of((ks_crypt_mode)mode);
    p->code = fec ? ks_fec_code_new(DS, PS, NULL) : NULL;
    p->fec = fec ? ks_fec_encoder_new(p->code, KS_UDP_PACKET_MAX) : NULL;
    ks_pool_init(&p->blocks, KS_UDP_PACKET_MAX);
    p->decoder = fec ? ks_fec_decoder_new(p->code, &p->blocks) : NULL;
    p->route = (ks_route){.link = &p->link, .fec = p->fec, .dup = dup};
    p->batch = malloc(sizeof *p->batch);
    ks_batch_init(p->batch, &p->count, on_refused);
    current = p;
}

static void close_pipe(pipe_end *p)
{
    ks_crypt_del(p->link.crypt);
    ks_crypt_del(p->opener);
    ks_fec_encoder_del(p->fec);
    ks_fec_decoder_del(p->decoder);
    ks_pool_free(&p->blocks);
    ks_fec_code_unref(p->code);
    free(p->batch);
    close(p->link.udp.fd);
    if (p->far >= 0)
        close(p->far);
}

/* ---- what is sent ---- */

static size_t size_of(uint32_t number)
{
    return number % 7 == 0 ? KS_KCP_HEAD + number % 60 : BYTES_MOST - number % 3 * 50;
}

static uint8_t byte_of(uint32_t number, size_t at)
{
    return (uint8_t)(number * 31 + at * 7 + at / 251);
}

/* In one piece of memory that stays, or in several that are overwritten at once: as ks_kcp's output gives them. */
static size_t put(pipe_end *p, uint32_t number, uint8_t *lasting)
{
    uint8_t pieces[3][KS_UDP_PACKET_MAX];
    size_t size = size_of(number);
    for (size_t i = 0; i < size; i++)
        lasting[i] = byte_of(number, i);
    if (number % 2 == 0)
        return ks_batch_put(p->batch, &p->route, &(struct iovec){lasting, size}, 1, size, number);
    size_t cut[] = {0, size / 5, size / 2, size};
    struct iovec iov[3];
    for (int i = 0; i < 3; i++) {
        iov[i] = (struct iovec){pieces[i], cut[i + 1] - cut[i]};
        memcpy(pieces[i], lasting + cut[i], iov[i].iov_len);
    }
    size_t total = ks_batch_put(p->batch, &p->route, iov, 3, size, number);
    memset(pieces, 0xdd, sizeof pieces);
    return total;
}

/* ---- what comes ---- */

typedef struct {
    uint32_t seen[PACKETS], wrong, unopened, parities, datagrams;
    uint64_t bytes;
} arrived;

static void check_packet(arrived *a, const uint8_t *packet, size_t size)
{
    /* Its first bytes tell which it is: no two are alike in these. */
    for (uint32_t number = 0; number < PACKETS; number++) {
        bool same = size == size_of(number);
        for (size_t i = 0; same && i < size; i++)
            same = packet[i] == byte_of(number, i);
        if (same && a->seen[number] <= a->seen[number > 0 ? number - 1 : 0]) {
            a->seen[number]++;
            return;
        }
    }
    a->wrong++;
}

static void on_rebuilt(void *ctx, const uint8_t *packet, size_t size)
{
    check_packet(ctx, packet, size);
}

/* Everything on the far socket; with FEC, every `lost`-th data packet is not looked at but rebuilt (0: none). */
static void read_back(pipe_end *p, arrived *a, uint32_t lost)
{
    uint8_t bytes[65536];
    for (ssize_t n; (n = recv(p->far, bytes, sizeof bytes, MSG_DONTWAIT)) >= 0;) {
        uint8_t *payload = bytes;
        size_t size = (size_t)n;
        a->datagrams++;
        a->bytes += size;
        CHECK(size <= KS_UDP_PACKET_MAX);
        if (p->opener != NULL && ks_crypt_open_untrusted(p->opener, bytes, size, &payload, &size) != KS_OK) {
            a->unopened++;
            continue;
        }
        if (p->decoder == NULL) {
            check_packet(a, payload, size);
            continue;
        }
        bool parity = ks_get_le16(payload + 4) == KS_FEC_PARITY;
        a->parities += parity;
        CHECK(parity || ks_get_le16(payload + 6) == size - 6);
        if (!parity && lost > 0 && ks_get_le32(payload) % lost == 0)
            continue;
        ks_fec_decode_untrusted(p->decoder, payload, size, on_rebuilt, a);
        if (!parity)
            check_packet(a, payload + KS_FEC_HEAD, size - KS_FEC_HEAD);
    }
}

static void run_batches(ks_udp_way way, int mode, bool fec, uint32_t dup)
{
    static uint8_t lasting[PACKETS][KS_UDP_PACKET_MAX];
    pipe_end p;
    arrived a;
    size_t told = 0;
    uint32_t lost = fec && dup == 0 ? 5 : 0;
    open_pipe(&p, way, mode, fec, dup);
    memset(&a, 0, sizeof a);
    size_t around = p.opener != NULL ? ks_crypt_head(p.opener) + ks_crypt_tail(p.opener) : 0;
    CHECK_EQ(ks_link_overhead(&p.link, fec), around + (fec ? KS_FEC_HEAD : 0));
    for (uint32_t number = 0; number < PACKETS; number++) {
        told += put(&p, number, lasting[number]);
        read_back(&p, &a, lost); /* before it is more than a socket holds */
    }
    ks_batch_send(p.batch);
    ks_batch_send(p.batch); /* nothing twice */
    CHECK(p.batch->n == 0 && p.batch->link == NULL);
    read_back(&p, &a, lost);
    uint32_t parities = fec ? PACKETS / DS * PS : 0;
    CHECK_EQ(a.datagrams, (PACKETS + parities) * (1 + dup));
    CHECK_EQ(a.parities, parities * (1 + dup));
    CHECK_EQ(a.bytes, told);
    CHECK_EQ(p.count.out_bytes, told);
    CHECK_EQ(p.count.out_pkts, a.datagrams);
    CHECK_EQ(a.unopened, 0);
    CHECK_EQ(a.wrong, 0);
    for (uint32_t number = 0; number < PACKETS; number++)
        CHECK_EQ(a.seen[number], 1 + dup);
    close_pipe(&p);
}

/* 128 packets fill a batch, 13 a group: batches end at every place in one, and with copies in the middle of a packet's. */
static void test_batches(void)
{
    static const int modes[] = {-1, KS_CRYPT_NONE, KS_CRYPT_SALSA20, KS_CRYPT_CFB, KS_CRYPT_GCM, KS_CRYPT_CHACHA20};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        for (int fec = 0; fec < 2; fec++) {
            run_batches(KS_UDP_WAY_AUTO, modes[i], fec, 0);
            run_batches(KS_UDP_WAY_PLAIN, modes[i], fec, 2);
            run_batches(KS_UDP_WAY_MMSG, modes[i], fec, 1);
        }
}

/* A batch holds packets of one socket only. */
static void test_batch_of_two_links(void)
{
    static uint8_t lasting[2][KS_UDP_PACKET_MAX];
    pipe_end p, other;
    arrived a, b;
    open_pipe(&p, KS_UDP_WAY_AUTO, KS_CRYPT_CHACHA20, false, 0);
    open_pipe(&other, KS_UDP_WAY_AUTO, -1, false, 0);
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    put(&p, 0, lasting[0]);
    ks_route theirs = {.link = &other.link};
    for (size_t i = 0; i < size_of(0); i++)
        lasting[1][i] = byte_of(0, i);
    ks_batch_put(p.batch, &theirs, &(struct iovec){lasting[1], size_of(0)}, 1, size_of(0), 0);
    CHECK_EQ(p.batch->n, 1);
    read_back(&p, &a, 0);
    CHECK_EQ(a.seen[0], 1);
    ks_batch_send(p.batch);
    read_back(&other, &b, 0);
    CHECK_EQ(b.seen[0], 1);
    CHECK_EQ(a.wrong + b.wrong + a.unopened, 0);
    close_pipe(&p);
    close_pipe(&other);
}

/* Answers to strangers are sent together, each to its own, whatever becomes of the addresses meanwhile. */
static void test_answers_in_one_batch(void)
{
    enum { STRANGERS = 3 };
    static ks_batch batch;
    ks_counters count = {0};
    ks_addr name, theirs[STRANGERS], to;
    ks_link link = {.crypt = NULL};
    int fd = bound_socket(&name), stranger[STRANGERS];
    CHECK_EQ(ks_udp_init(&link.udp, fd, KS_UDP_WAY_AUTO, 1 << 16, 0), 0);
    ks_batch_init(&batch, &count, on_refused);
    for (uint8_t i = 0; i < STRANGERS; i++) {
        uint8_t packet[4] = {i, i, i, i};
        ks_credit credit = {.left = sizeof packet};
        stranger[i] = bound_socket(&theirs[i]);
        to = theirs[i];
        ks_route route = {.link = &link, .to = &to, .credit = &credit};
        ks_batch_put_answer(&batch, &route, packet, sizeof packet, 0);
        ks_batch_put_answer(&batch, &route, packet, sizeof packet, 0); /* for which there is no credit */
    }
    memset(&to, 0, sizeof to);
    CHECK_EQ(batch.n, STRANGERS);
    CHECK_EQ(count.out_pkts, 0);
    ks_batch_send(&batch);
    CHECK_EQ(count.out_pkts, STRANGERS);
    for (uint8_t i = 0; i < STRANGERS; i++) {
        uint8_t got[8] = {0xff};
        CHECK_EQ(recv(stranger[i], got, sizeof got, MSG_DONTWAIT), 4);
        CHECK_EQ(got[0], i);
        CHECK(recv(stranger[i], got, sizeof got, MSG_DONTWAIT) < 0);
        close(stranger[i]);
    }
    close(fd);
}

/* The longest packets: crypt's and FEC's bytes are counted in, and a batch of them fits. */
static void test_longest_packets(void)
{
    pipe_end p;
    uint8_t packet[KS_UDP_PACKET_MAX] = {0};
    open_pipe(&p, KS_UDP_WAY_AUTO, KS_CRYPT_GCM, true, 1);
    size_t size = KS_UDP_PACKET_MAX - ks_link_overhead(&p.link, true);
    uint64_t datagrams = 0;
    for (uint32_t i = 0; i < KS_UDP_BATCH; i++) {
        ks_batch_put(p.batch, &p.route, &(struct iovec){packet, size}, 1, size, 0);
        uint8_t bytes[65536];
        for (ssize_t n; (n = recv(p.far, bytes, sizeof bytes, MSG_DONTWAIT)) >= 0; datagrams++)
            CHECK_EQ(n, KS_UDP_PACKET_MAX);
    }
    ks_batch_send(p.batch);
    CHECK(datagrams > 0);
    CHECK_EQ(p.count.out_bytes, p.count.out_pkts * KS_UDP_PACKET_MAX);
    CHECK_EQ(p.count.out_pkts, 2 * (KS_UDP_BATCH + KS_UDP_BATCH / DS * PS));
    close_pipe(&p);
}

static int refuse_to_encrypt(const ks_block *block, const uint8_t *in, uint8_t *out, size_t size)
{
    (void)block, (void)in, (void)out, (void)size;
    return -1;
}

static int keep(ks_block *block)
{
    (void)block;
    return 0;
}

/* What can't be sealed is not sent in the clear, nor half of it: it is dropped and counted, and the batch goes on. */
static void test_seal_fails(void)
{
    static ks_block broken = {.encrypt = refuse_to_encrypt, .destructor = keep, .block_len = 16};
    static uint8_t lasting[KS_UDP_PACKET_MAX];
    pipe_end p;
    arrived a;
    open_pipe(&p, KS_UDP_WAY_AUTO, -1, false, 0);
    memset(&a, 0, sizeof a);
    p.link.crypt = ks_crypt_new(KS_CRYPT_CFB, NULL, 0, &broken);
    if (!CHECK(p.link.crypt != NULL))
        return;
    for (uint32_t number = 0; number < 5; number++)
        put(&p, number, lasting);
    ks_batch_send(p.batch);
    CHECK_EQ(p.count.udp_send_drops, 5);
    CHECK_EQ(p.count.out_pkts, 0);
    read_back(&p, &a, 0);
    CHECK_EQ(a.datagrams, 0);
    ks_crypt_del(p.link.crypt);
    p.link.crypt = NULL;
    put(&p, 0, lasting);
    ks_batch_send(p.batch);
    read_back(&p, &a, 0);
    CHECK_EQ(a.seen[0], 1);
    close_pipe(&p);
}

/* Nobody at the other end: all of it is taken, and the owner hears of it. */
static void test_refused(void)
{
    static uint8_t lasting[KS_UDP_PACKET_MAX];
    pipe_end p;
    open_pipe(&p, KS_UDP_WAY_AUTO, KS_CRYPT_NONE, true, 1);
    close(p.far);
    p.far = -1;
    for (uint32_t number = 0; number < 200; number++) {
        put(&p, number, lasting);
        if (number % 50 == 49)
            ks_batch_send(p.batch);
    }
    CHECK(p.refused > 0);
    CHECK_EQ(p.count.out_pkts + p.count.udp_send_drops, 2 * (200 + 200 / DS * PS));
    close_pipe(&p);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_batches), TEST(test_batch_of_two_links), TEST(test_answers_in_one_batch), TEST(test_longest_packets), TEST(test_seal_fails), TEST(test_refused),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
