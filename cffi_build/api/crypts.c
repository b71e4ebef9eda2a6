/* SPDX-License-Identifier: MIT */
#include "crypts.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__linux__) && !defined(KS_PLAIN)
#include <link.h>
#endif

#include "block.h"
#include "crc32.h"
#include "crypt.h"
#include "err.h"
#include "ghash.h"
#include "mem.h"
#include "octets.h"
#include "poly1305.h"
#include "simd.h"
#include "keystream.h"

#define CRYPTS_MAX 4096

/* Number i + 1 is table[i]. */
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static ks_crypt *table[CRYPTS_MAX];
static ks_entropy entropy; /* for what is sealed here */
static pid_t entropy_owner;

/* Locks the table in any case; every use ends with leave(). */
static ks_crypt *enter(int crypt)
{
    pthread_mutex_lock(&table_lock);
    return crypt < 1 || crypt > CRYPTS_MAX ? NULL : table[crypt - 1];
}

static int leave(int result)
{
    pthread_mutex_unlock(&table_lock);
    return result;
}

static ks_block *new_block(int cipher, const uint8_t *key, size_t size)
{
    switch (cipher) {
    case KS_CIPHER_TWOFISH:
        return ks_twofish_new(key, size);
    case KS_CIPHER_SM4:
        return ks_sm4_new(key, size);
    case KS_CIPHER_TEA:
        return ks_tea_new(key, size);
    case KS_CIPHER_XTEA:
        return ks_xtea_new(key, size);
    default:
        return NULL;
    }
}

static bool is_key_of(int cipher, const uint8_t *key, int size)
{
    if (key == NULL)
        return false;
    if (cipher == KS_CIPHER_TWOFISH)
        return size == 16 || size == 24 || size == 32;
    return size == 16 && (cipher == KS_CIPHER_SM4 || cipher == KS_CIPHER_TEA || cipher == KS_CIPHER_XTEA);
}

/* What ks_crypt_new takes; it looks at the key's length again, which here tells -EINVAL from -ENOMEM. */
static bool is_valid(int mode, int cipher, const uint8_t *key, int key_len, const ks_block *given)
{
    if (key_len < 0 || (key == NULL && key_len > 0) || mode < KS_CRYPT_NONE || mode > KS_CRYPT_CHACHA20)
        return false;
    if (cipher != KS_CIPHER_GIVEN)
        return given == NULL && is_key_of(cipher, key, key_len) &&
               (mode == KS_CRYPT_CFB || (mode == KS_CRYPT_GCM && cipher != KS_CIPHER_TEA && cipher != KS_CIPHER_XTEA));
    if (mode == KS_CRYPT_CFB || mode == KS_CRYPT_GCM)
        return given != NULL && (given->block_len == 16 || (given->block_len == 8 && mode == KS_CRYPT_CFB));
    if (mode == KS_CRYPT_XOR)
        return given == NULL && key_len == (int)KS_CRYPT_XOR_BYTES;
    return given == NULL && (mode == KS_CRYPT_NONE || key_len == 32);
}

int ks_crypt_open(int mode, int cipher, const uint8_t *key, int key_len, uintptr_t block_cipher)
{
    ks_block *block = (ks_block *)block_cipher; /* NOLINT: Python has no other way to name it */
    if (!is_valid(mode, cipher, key, key_len, block)) {
        if (block != NULL)
            block->destructor(block);
        return -EINVAL;
    }
    if (cipher != KS_CIPHER_GIVEN) {
        block = new_block(cipher, key, (size_t)key_len);
        if (block == NULL)
            return -ENOMEM;
    }
    ks_crypt *c = ks_crypt_new((ks_crypt_mode)mode, key, (size_t)key_len, block);
    if (c == NULL)
        return -ENOMEM;
    pthread_mutex_lock(&table_lock);
    int i = 0;
    while (i < CRYPTS_MAX && table[i] != NULL)
        i++;
    if (i < CRYPTS_MAX)
        table[i] = c;
    leave(0);
    if (i == CRYPTS_MAX)
        ks_crypt_del(c);
    return i < CRYPTS_MAX ? i + 1 : -EMFILE;
}

ks_crypt *ks_crypt_take(int crypt)
{
    ks_crypt *c = enter(crypt);
    if (c != NULL)
        table[crypt - 1] = NULL;
    leave(0);
    return c;
}

int ks_crypt_close(int crypt)
{
    ks_crypt *c = ks_crypt_take(crypt);
    ks_crypt_del(c); /* outside the lock: a cipher in Python is told of its end */
    return c == NULL ? -EBADF : 0;
}

int ks_crypt_overhead(int crypt)
{
    const ks_crypt *c = enter(crypt);
    return leave(c == NULL ? -EBADF : (int)(ks_crypt_head(c) + ks_crypt_tail(c)));
}

/* A forked child must not draw the parent's nonces again. */
static void own_entropy(void)
{
    if (entropy_owner != getpid()) {
        ks_wipe(&entropy, sizeof entropy);
        entropy_owner = getpid();
    }
}

int ks_crypt_seal_packets(int crypt, uint8_t *space, int stride, int32_t *sizes, int n)
{
    const ks_crypt *c = enter(crypt);
    if (c == NULL)
        return leave(-EBADF);
    if (n < 0 || stride < 0 || (n > 0 && (space == NULL || sizes == NULL)))
        return leave(-EINVAL);
    int32_t around = (int32_t)(ks_crypt_head(c) + ks_crypt_tail(c));
    for (int i = 0; i < n; i++) {
        if (sizes[i] < 0 || stride < around || sizes[i] > stride - around)
            return leave(-EINVAL);
    }
    own_entropy();
    ks_packet packets[64];
    for (int done = 0; done < n;) {
        int batch = n - done < 64 ? n - done : 64;
        for (int i = 0; i < batch; i++) {
            sizes[done + i] += around;
            packets[i] = (ks_packet){space + (size_t)(done + i) * (size_t)stride, (size_t)sizes[done + i]};
        }
        if (ks_crypt_seal(c, &entropy, packets, (size_t)batch) != KS_OK)
            return leave(-EAGAIN);
        done += batch;
    }
    return leave(0);
}

int ks_crypt_open_packets(int crypt, uint8_t *space, int stride, int32_t *sizes, int n)
{
    const ks_crypt *c = enter(crypt);
    if (c == NULL)
        return leave(-EBADF);
    if (n < 0 || stride < 0 || (n > 0 && (space == NULL || sizes == NULL)))
        return leave(-EINVAL);
    for (int i = 0; i < n; i++) {
        if (sizes[i] < 0 || sizes[i] > stride)
            return leave(-EINVAL);
    }
    int good = 0;
    for (int i = 0; i < n; i++) {
        uint8_t *payload;
        size_t size;
        int result = ks_crypt_open_untrusted(c, space + (size_t)i * (size_t)stride, (size_t)sizes[i], &payload, &size);
        sizes[i] = result == KS_OK ? (int32_t)size : -1;
        good += result == KS_OK;
    }
    return leave(good);
}

/* ---- foreign block ciphers ---- */

#if defined(__linux__) && !defined(KS_PLAIN)
typedef struct {
    uintptr_t address;
    bool is_code;
} code_search;

static int look_for_code(struct dl_phdr_info *object, size_t size, void *found)
{
    (void)size;
    code_search *s = found;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        uintptr_t start = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr;
        if (object->dlpi_phdr[i].p_type == PT_LOAD && s->address >= start && s->address - start < object->dlpi_phdr[i].p_memsz)
            s->is_code = (object->dlpi_phdr[i].p_flags & PF_X) != 0;
    }
    return 0;
}

static bool is_code(uintptr_t address)
{
    code_search s = {address, false};
    dl_iterate_phdr(look_for_code, &s);
    return s.is_code;
}
#else
static bool is_code(uintptr_t address)
{
    return address != 0;
}
#endif

static bool is_in(uintptr_t address, const struct stat *file)
{
    Dl_info info;
    struct stat s;
    return dladdr((const void *)address, &info) != 0 && info.dli_fname != NULL && stat(info.dli_fname, &s) == 0 &&
           s.st_dev == file->st_dev && s.st_ino == file->st_ino && is_code(address);
}

int ks_crypt_check(uintptr_t block_cipher, const char *path, int block_len, const uint8_t *plain, const uint8_t *expected,
                   int size)
{
    struct stat file;
    struct {
        uintptr_t functions[3];
        size_t block_len;
    } seen;
    _Static_assert(sizeof seen == sizeof(ks_block), "a ks_block as numbers");
    if (block_cipher == 0 || path == NULL || plain == NULL || expected == NULL || stat(path, &file) < 0)
        return 0;
    memcpy(&seen, (const void *)block_cipher, sizeof seen);
    if (size <= 0 || (block_len != 8 && block_len != 16) || seen.block_len != (size_t)block_len || size % block_len != 0)
        return 0;
    for (int i = 0; i < 3; i++) {
        if (!is_in(seen.functions[i], &file) || seen.functions[i] == seen.functions[(i + 1) % 3])
            return 0;
    }
    const ks_block *block = (const ks_block *)block_cipher;
    uint8_t *out = ks_alloc(2 * (size_t)size), *again = out + size;
    if (out == NULL)
        return 0;
    memcpy(again, plain, (size_t)size);
    int good = block->encrypt(block, plain, out, (size_t)size) == 0 && memcmp(out, expected, (size_t)size) == 0 &&
               block->encrypt(block, again, again, (size_t)size) == 0 && memcmp(again, expected, (size_t)size) == 0;
    ks_free(out);
    return good;
}

typedef struct {
    ks_block block;
    ks_encrypt_elsewhere *encrypt;
    int id;
} elsewhere;

static int elsewhere_encrypt(const ks_block *block, const uint8_t *in, uint8_t *out, size_t size)
{
    const elsewhere *e = (const elsewhere *)(const void *)block;
    return size == 0 ? 0 : e->encrypt(e->id, in, out, size);
}

static int elsewhere_del(ks_block *block)
{
    elsewhere *e = (elsewhere *)(void *)block;
    e->encrypt(e->id, NULL, NULL, 0);
    ks_free(e);
    return 0;
}

uintptr_t ks_crypt_elsewhere(ks_encrypt_elsewhere *encrypt, int id, int block_len)
{
    elsewhere *e = encrypt != NULL && block_len > 0 ? ks_alloc(sizeof *e) : NULL;
    if (e == NULL)
        return 0;
    e->block = (ks_block){.encrypt = elsewhere_encrypt, .destructor = elsewhere_del, .block_len = (size_t)block_len};
    e->encrypt = encrypt;
    e->id = id;
    return (uintptr_t)e;
}

/* ---- the parts alone ---- */

int ks_crypt_simd(int level)
{
    if (level > KS_SIMD_ARM || (level >= 0 && ks_simd_select((ks_simd_level)level) != KS_OK))
        return -EOPNOTSUPP;
    return (int)ks_simd();
}

int ks_crypt_block(int cipher, const uint8_t *key, int key_len, const uint8_t *in, uint8_t *out, int size)
{
    if (!is_key_of(cipher, key, key_len) || in == NULL || out == NULL || size < 0)
        return -EINVAL;
    ks_block *block = new_block(cipher, key, (size_t)key_len);
    if (block == NULL)
        return -ENOMEM;
    int result = (size_t)size % block->block_len != 0 ? -EINVAL : block->encrypt(block, in, out, (size_t)size);
    block->destructor(block);
    return result;
}

int ks_crypt_stream(int cipher, const uint8_t key[32], const uint8_t *nonce, uint32_t counter, uint8_t *data, int size)
{
    ks_keystream stream;
    ks_keystream_run run;
    if (key == NULL || nonce == NULL || data == NULL || size < 0)
        return -EINVAL;
    if (cipher == KS_CIPHER_SALSA20) {
        ks_salsa20_init(&stream, key);
        run = ks_salsa20_run(data, (size_t)size, nonce, counter);
    } else if (cipher == KS_CIPHER_CHACHA20) {
        ks_chacha20_init(&stream, key);
        run = ks_chacha20_run(data, (size_t)size, nonce, counter);
    } else
        return -EINVAL;
    ks_keystream_xor(&stream, &run, 1);
    ks_wipe(&stream, sizeof stream);
    return 0;
}

int ks_crypt_ghash(const uint8_t h[16], const uint8_t *data, int size, uint8_t digest[16])
{
    ks_ghash ghash;
    if (h == NULL || data == NULL || size < 0 || digest == NULL)
        return -EINVAL;
    ks_ghash_init(&ghash, h);
    ks_ghash_digest(&ghash, data, (size_t)size, digest);
    ks_wipe(&ghash, sizeof ghash);
    return 0;
}

int ks_crypt_poly1305(const uint8_t key[32], const uint8_t *data, int size, uint8_t tag[16])
{
    if (key == NULL || data == NULL || size < 0 || tag == NULL)
        return -EINVAL;
    ks_poly1305(key, data, (size_t)size, tag);
    return 0;
}

uint32_t ks_crypt_crc32(const uint8_t *data, int size)
{
    return data == NULL || size < 0 ? 0 : ks_crc32(data, (size_t)size);
}
