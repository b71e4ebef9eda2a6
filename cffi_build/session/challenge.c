/* SPDX-License-Identifier: MIT */
#include "session/challenge.h"

#include <string.h>

#include "arq/kcp.h"
#include "base/octets.h"

/* The sn before a conversation's first one. */
#define SN_BEFORE_FIRST UINT32_MAX

static uint32_t hash_of(const ks_siphash_key *secret, const ks_addr *peer, uint32_t conv, uint64_t period)
{
    uint8_t what[16 + 2 + 4 + 4 + 8] = {0}, *at = what;
    if (peer->sa.sa_family == AF_INET6) {
        memcpy(at, &peer->in6.sin6_addr, 16);
        memcpy(at + 16, &peer->in6.sin6_port, 2);
        ks_put_le32(at + 18, peer->in6.sin6_scope_id);
    } else {
        memcpy(at, &peer->in4.sin_addr, 4);
        memcpy(at + 16, &peer->in4.sin_port, 2);
    }
    ks_put_le32(what + 22, conv);
    ks_put_le64(what + 26, period);
    return (uint32_t)ks_siphash(secret, what, sizeof what);
}

uint32_t ks_cookie(const ks_siphash_key *secret, const ks_addr *peer, uint32_t conv, uint64_t now_ms)
{
    return hash_of(secret, peer, conv, now_ms / KS_COOKIE_MS);
}

bool ks_cookie_is_good(const ks_siphash_key *secret, const ks_addr *peer, uint32_t conv, uint64_t now_ms, uint32_t cookie)
{
    const uint64_t period = now_ms / KS_COOKIE_MS;
    return cookie == hash_of(secret, peer, conv, period) || (period > 0 && cookie == hash_of(secret, peer, conv, period - 1));
}

void ks_challenge_write(uint8_t *packet, uint32_t conv, uint16_t wnd, uint32_t cookie)
{
    memset(packet, 0, KS_KCP_HEAD);
    ks_put_le32(packet, conv);
    packet[4] = KS_KCP_PUSH;
    ks_put_le16(packet + 6, wnd);
    ks_put_le32(packet + 8, cookie);
    ks_put_le32(packet + 12, SN_BEFORE_FIRST);
}

bool ks_challenge_find_untrusted(const uint8_t *packet, size_t size, uint32_t *cookie)
{
    while (size >= KS_KCP_HEAD) {
        uint32_t len = ks_get_le32(packet + 20);
        if (packet[4] == KS_KCP_ACK && ks_get_le32(packet + 12) == SN_BEFORE_FIRST) {
            *cookie = ks_get_le32(packet + 8);
            return true;
        }
        if (len > size - KS_KCP_HEAD)
            return false;
        packet += KS_KCP_HEAD + len;
        size -= KS_KCP_HEAD + len;
    }
    return false;
}
