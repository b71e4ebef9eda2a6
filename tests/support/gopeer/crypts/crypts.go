// SPDX-License-Identifier: MIT

// Package crypts has kcp-go's packet crypts by the names that kcptun and kcpsock know, keyed as kcptun does it.
package crypts

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"fmt"

	kcp "github.com/xtaci/kcp-go/v5"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	NonceBytes = 16
	HeadBytes  = NonceBytes + 4 // nonce and crc32, before the payload of each packet, for all but AEADs
	keyBytes   = 32             // of what a passphrase gives; a cipher takes its first bytes
)

// Kind is a crypt without a key.
type Kind struct {
	KeyBytes int
	Open     func(key []byte) (kcp.BlockCrypt, error)
}

var kinds = map[string]Kind{
	"aes": {32, kcp.NewAESBlockCrypt}, "aes-128": {16, kcp.NewAESBlockCrypt}, "aes-192": {24, kcp.NewAESBlockCrypt},
	"salsa20": {32, kcp.NewSalsa20BlockCrypt}, "blowfish": {32, kcp.NewBlowfishBlockCrypt},
	"twofish": {32, kcp.NewTwofishBlockCrypt}, "cast5": {16, kcp.NewCast5BlockCrypt},
	"3des": {24, kcp.NewTripleDESBlockCrypt}, "tea": {16, kcp.NewTEABlockCrypt}, "xtea": {16, kcp.NewXTEABlockCrypt},
	"xor": {32, kcp.NewSimpleXORBlockCrypt}, "sm4": {16, kcp.NewSM4BlockCrypt}, "none": {32, kcp.NewNoneBlockCrypt},
	"aes-128-gcm": {16, kcp.NewAESGCMCrypt},
	// Not in kcptun: kcp-go wraps any cipher.AEAD.
	"aes-192-gcm": {24, aead(newGCM)}, "aes-256-gcm": {32, aead(newGCM)},
	"chacha20-poly1305": {32, aead(chacha20poly1305.New)},
}

func aead(make func([]byte) (cipher.AEAD, error)) func([]byte) (kcp.BlockCrypt, error) {
	return func(key []byte) (kcp.BlockCrypt, error) {
		a, err := make(key)
		if err != nil {
			return nil, err
		}
		return kcp.NewAEADCrypt(a), nil
	}
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func Find(name string) (Kind, error) {
	kind, ok := kinds[name]
	if !ok {
		return kind, fmt.Errorf("there is no crypt %q", name)
	}
	return kind, nil
}

// Open derives the key from a passphrase. It returns nil for "null" and "": no crypt at all.
func Open(name, passphrase string) (kcp.BlockCrypt, error) {
	if name == "" || name == "null" {
		return nil, nil
	}
	kind, err := Find(name)
	if err != nil {
		return nil, err
	}
	secret, err := pbkdf2.Key(sha1.New, passphrase, []byte("kcp-go"), 4096, keyBytes)
	if err != nil {
		return nil, err
	}
	return kind.Open(secret[:kind.KeyBytes])
}

// Overhead is how many bytes of each packet the crypt takes.
func Overhead(block kcp.BlockCrypt) int {
	switch block := block.(type) {
	case nil:
		return 0
	case cipher.AEAD: // kcp-go's own type for that is not exported, its methods are
		return block.NonceSize() + block.Overhead()
	default:
		return HeadBytes
	}
}
