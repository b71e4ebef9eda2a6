/* SPDX-License-Identifier: MIT */
#include "smux/smux.h"

#include <stdlib.h>

#include "check.h"
#include "base/err.h"

/* Parses `bytes` in pieces of `piece`; writes what came as text: a letter and the stream for each event. -> the last result */
static int parse(uint8_t version, const uint8_t *bytes, size_t size, size_t piece, char *text, size_t *payload)
{
    ks_smux_parser p;
    ks_smux_event ev;
    int result = 0;
    bool in_push = false;
    ks_smux_parser_init(&p, version);
    *payload = 0;
    for (size_t at = 0; at < size && result >= 0; at += piece) {
        const uint8_t *data = bytes + at;
        size_t left = size - at < piece ? size - at : piece;
        while ((result = ks_smux_parse_untrusted(&p, &data, &left, &ev)) > 0) {
            if (ev.cmd == KS_SMUX_PSH) {
                for (size_t i = 0; i < ev.size; i++)
                    CHECK_EQ(ev.data[i], (uint8_t)(*payload)++);
                if (in_push)
                    continue; /* one frame in several pieces */
            }
            in_push = ev.cmd == KS_SMUX_PSH;
            text += sprintf(text, "%c%u ", "SFPNU"[ev.cmd], (unsigned)ev.sid);
            if (ev.cmd == KS_SMUX_UPDATE)
                text += sprintf(text, "%u/%u ", (unsigned)ev.consumed, (unsigned)ev.window);
        }
    }
    *text = 0;
    return result;
}

static void test_smux_any_pieces(void)
{
    uint8_t bytes[400], *w = bytes;
    size_t payload;
    char text[4000];
    ks_smux_head(w, 2, KS_SMUX_SYN, 0, 3), w += KS_SMUX_HEAD;
    ks_smux_head(w, 2, KS_SMUX_PSH, 200, 3), w += KS_SMUX_HEAD;
    for (int i = 0; i < 200; i++)
        *w++ = (uint8_t)i;
    ks_smux_upd(w, 3, 0xfffffff0u, 65536), w += KS_SMUX_UPD;
    ks_smux_head(w, 2, KS_SMUX_PSH, 0, 3), w += KS_SMUX_HEAD;
    ks_smux_head(w, 2, KS_SMUX_NOP, 0, 0), w += KS_SMUX_HEAD;
    ks_smux_head(w, 2, KS_SMUX_FIN, 0, 0xffffffffu), w += KS_SMUX_HEAD;
    for (size_t piece = 1; piece <= (size_t)(w - bytes); piece++) {
        CHECK_EQ(parse(2, bytes, (size_t)(w - bytes), piece, text, &payload), 0);
        CHECK(strcmp(text, "S3 P3 U3 4294967280/65536 N0 F4294967295 ") == 0);
        CHECK_EQ(payload, 200);
    }
}

static void test_smux_refuses(void)
{
    static const uint8_t wrong[][16] = {
        {1, KS_SMUX_SYN},           /* another version */
        {2, 5},                     /* no such command */
        {2, KS_SMUX_SYN, 1},        /* data behind a SYN */
        {2, KS_SMUX_FIN, 0, 1},
        {2, KS_SMUX_NOP, 8},
        {2, KS_SMUX_UPDATE, 0},     /* too short */
        {2, KS_SMUX_UPDATE, 9},     /* too long */
    };
    char text[100];
    size_t payload;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_EQ(parse(2, wrong[i], sizeof wrong[i], 16, text, &payload), KS_EMALFORMED);
    CHECK_EQ(parse(1, (const uint8_t[16]){1, KS_SMUX_UPDATE, 8}, 16, 16, text, &payload), KS_EMALFORMED);
    CHECK_EQ(parse(1, (const uint8_t[8]){1, KS_SMUX_NOP}, 8, 8, text, &payload), 0);
}

static void test_smux_random_bytes(void)
{
    uint8_t bytes[300];
    ks_smux_parser p;
    srand(9);
    for (int run = 0; run < 20000; run++) {
        size_t size = (size_t)rand() % sizeof bytes, left = size;
        const uint8_t *data = bytes;
        ks_smux_event ev;
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)(rand() % (rand() % 2 ? 5 : 256));
        ks_smux_parser_init(&p, (uint8_t)(1 + run % 2));
        int result, events = 0;
        while ((result = ks_smux_parse_untrusted(&p, &data, &left, &ev)) > 0) {
            CHECK(ev.cmd <= KS_SMUX_UPDATE && ++events <= 300);
            CHECK(ev.cmd != KS_SMUX_PSH || (ev.data >= bytes && ev.data + ev.size <= bytes + size));
        }
        CHECK((result == 0 && left == 0) || result == KS_EMALFORMED);
    }
}

/* All counts modulo 2^32: a window that starts just before the wrap behaves as any other. */
static void test_smux_flow_over_the_wrap(void)
{
    ks_smux_flow f;
    ks_smux_flow_init(&f, 1000);
    CHECK_EQ(ks_smux_flow_room(&f), KS_SMUX_FIRST_WINDOW);
    f.sent = f.peer_consumed = 0xffffff00u;
    f.sent += 600;
    CHECK_EQ(ks_smux_flow_room(&f), KS_SMUX_FIRST_WINDOW - 600);
    ks_smux_flow_update(&f, 0xffffff00u + 500, 300);
    CHECK_EQ(ks_smux_flow_room(&f), 200);
    ks_smux_flow_update(&f, 0xffffff00u + 601, 300); /* more than was sent */
    ks_smux_flow_update(&f, 0xffffff00u + 499, 300); /* less than before */
    CHECK_EQ(ks_smux_flow_room(&f), 200);
    ks_smux_flow_update(&f, 0xffffff00u + 600, 0);
    CHECK_EQ(ks_smux_flow_room(&f), 0);
    ks_smux_flow_update(&f, 0xffffff00u + 600, 0xffffffffu);
    CHECK_EQ(ks_smux_flow_room(&f), 0xffffffffu);

    f.consumed = f.told = 0xfffffe00u;
    CHECK(ks_smux_flow_consume(&f, 1, 1000)); /* the first read is told */
    CHECK(!ks_smux_flow_consume(&f, 499, 1000));
    CHECK(ks_smux_flow_consume(&f, 1, 1000) && f.told == f.consumed);
    CHECK(!ks_smux_flow_consume(&f, 499, 1000));
    CHECK(ks_smux_flow_consume(&f, 1, 1000) && f.consumed == 0xfffffe00u + 1001);
}

int main(int argc, char **argv)
{
    static const check_test tests[] = {
        TEST(test_smux_any_pieces), TEST(test_smux_refuses), TEST(test_smux_random_bytes), TEST(test_smux_flow_over_the_wrap),
    };
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
