/* SPDX-License-Identifier: MIT */
#include "api/crypts.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#if defined(__linux__) && !defined(KS_PLAIN)
#include <link.h>
#endif

#include "base/lock.h"
#include "crypt/block.h"
#include "crypt/crypt.h"
#include "base/mem.h"

#define CRYPTS_MAX 4096

/* Number i + 1 is table[i]. */
static ks_lock table_lock = KS_LOCK_INIT(KS_RANK_CRYPTS);
static ks_crypt *table[CRYPTS_MAX];

ks_crypt *ks_crypts_enter(int crypt)
{
    ks_lock_take(&table_lock);
    return crypt < 1 || crypt > CRYPTS_MAX ? NULL : table[crypt - 1];
}

int ks_crypts_leave(int result)
{
    ks_lock_release(&table_lock);
    return result;
}

ks_block *ks_cipher_new(int cipher, const uint8_t *key, size_t size)
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

bool ks_cipher_takes(int cipher, const uint8_t *key, int size)
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
        return given == NULL && ks_cipher_takes(cipher, key, key_len) &&
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
        block = ks_cipher_new(cipher, key, (size_t)key_len);
        if (block == NULL)
            return -ENOMEM;
    }
    ks_crypt *c = ks_crypt_new((ks_crypt_mode)mode, key, (size_t)key_len, block);
    if (c == NULL)
        return -ENOMEM;
    ks_lock_take(&table_lock);
    int i = 0;
    while (i < CRYPTS_MAX && table[i] != NULL)
        i++;
    if (i < CRYPTS_MAX)
        table[i] = c;
    (void)ks_crypts_leave(0);
    if (i == CRYPTS_MAX)
        ks_crypt_del(c);
    return i < CRYPTS_MAX ? i + 1 : -EMFILE;
}

ks_crypt *ks_crypt_take(int crypt)
{
    ks_crypt *c = ks_crypts_enter(crypt);
    if (c != NULL)
        table[crypt - 1] = NULL;
    (void)ks_crypts_leave(0);
    return c;
}

int ks_crypt_close(int crypt)
{
    ks_crypt *c = ks_crypt_take(crypt);
    ks_crypt_del(c); /* outside the lock: a cipher in Python is told of its end */
    return c == NULL ? -EBADF : 0;
}

void ks_crypts_forget_holder(void)
{
    ks_lock_init(&table_lock, KS_RANK_CRYPTS);
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
    /* The engines run on when the interpreter has ended and let go of its libraries: this handle is never closed. */
    return good && dlopen(path, RTLD_LAZY) != NULL;
}

typedef struct {
    ks_block block;
    ks_encrypt_elsewhere *encrypt;
    int id;
} elsewhere;

static int elsewhere_encrypt(const ks_block *block, const uint8_t *in, uint8_t *out, size_t size)
{
    const elsewhere *e = (const elsewhere *)(const void *)block;
    if (size == 0)
        return 0;
    ks_python_enter();
    int result = e->encrypt(e->id, in, out, size);
    ks_python_leave();
    return result;
}

static int elsewhere_del(ks_block *block)
{
    elsewhere *e = (elsewhere *)(void *)block;
    ks_python_enter();
    e->encrypt(e->id, NULL, NULL, 0);
    ks_python_leave();
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
