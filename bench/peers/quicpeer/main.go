// SPDX-License-Identifier: MIT

// hysteria 2 (QUIC) as a rival of bench/link.py: what carries TCP connections from a near program to a far one. A module of its
// own, since it wants other versions of what kcp-go needs too. bench/peers/link_rivals.py builds it, and says how it is started:
//
//	quicpeer tunnel-server --listen A                                       prints "port P", of UDP
//	quicpeer tunnel-client --addr A --target T --congestion bbr|reno|brutal prints "port P", of TCP on loopback
//
// Each connection to the client's port becomes one from the server to T. brutal is told the link's rate by --mbit. The end of
// stdin is the order to end; --timeout ends it anyway.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"time"

	"github.com/apernet/hysteria/core/v2/client"
	"github.com/apernet/hysteria/core/v2/server"
)

const brutal = "brutal"

type options struct {
	listen, addr, target, congestion string
	mbit, timeout                    float64
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "quicpeer:", err)
		os.Exit(3)
	}
}

func main() {
	commands := map[string]func(*options){"tunnel-server": runServer, "tunnel-client": runClient}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		exit(fmt.Errorf("usage: quicpeer tunnel-server|tunnel-client [--flag=value ...]"))
	}
	o := &options{}
	f := flag.NewFlagSet("quicpeer", flag.ExitOnError)
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "UDP address a server binds")
	f.StringVar(&o.addr, "addr", "", "UDP address a client connects to")
	f.StringVar(&o.target, "target", "", "client: where the server's TCP connections go to")
	f.StringVar(&o.congestion, "congestion", "bbr", "bbr, reno or brutal")
	f.Float64Var(&o.mbit, "mbit", 0, "brutal: the link's rate, each way")
	f.Float64Var(&o.timeout, "timeout", 120, "seconds after which the process gives up")
	f.Parse(os.Args[2:]) // ExitOnError: it does not return an error
	time.AfterFunc(time.Duration(o.timeout*float64(time.Second)), func() {
		exit(fmt.Errorf("gave up after %g s", o.timeout))
	})
	go commands[os.Args[1]](o)
	io.Copy(io.Discard, os.Stdin)
}

// anyone may come: no key is asked for.
type anyone struct{}

func (anyone) Authenticate(net.Addr, string, uint64) (bool, string) { return true, "anyone" }

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	exit(err)
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"quicpeer"}, NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	exit(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func runServer(o *options) {
	conn, err := net.ListenPacket("udp", o.listen)
	exit(err)
	congestion := server.CongestionConfig{}
	if o.congestion != brutal { // whose rate the client tells
		congestion.Type = o.congestion
	}
	s, err := server.NewServer(&server.Config{
		TLSConfig:        server.TLSConfig{Certificates: []tls.Certificate{certificate()}},
		Conn:             conn,
		Authenticator:    anyone{},
		CongestionConfig: congestion,
	})
	exit(err)
	fmt.Println("port", conn.LocalAddr().(*net.UDPAddr).Port)
	exit(s.Serve())
}

// connect does QUIC's handshake, again when a packet of it was lost for too long.
func connect(o *options) client.Client {
	address, err := net.ResolveUDPAddr("udp", o.addr)
	exit(err)
	c := client.Config{ServerAddr: address, TLSConfig: client.TLSConfig{ServerName: "quicpeer", InsecureSkipVerify: true}}
	if o.congestion == brutal {
		c.BandwidthConfig.MaxTx = uint64(o.mbit * 1e6 / 8)
		c.BandwidthConfig.MaxRx = c.BandwidthConfig.MaxTx
	} else {
		c.CongestionConfig.Type = o.congestion
	}
	for {
		session, _, err := client.NewClient(&c)
		if err == nil {
			return session
		}
		fmt.Fprintln(os.Stderr, "quicpeer: no handshake:", err) // --timeout bounds how often
	}
}

func runClient(o *options) {
	session := connect(o)
	l, err := net.Listen("tcp", o.listen)
	exit(err)
	fmt.Println("port", l.Addr().(*net.TCPAddr).Port)
	for {
		near, err := l.Accept()
		exit(err)
		go carry(near, session, o.target)
	}
}

func carry(near net.Conn, session client.Client, target string) {
	defer near.Close()
	far, err := session.TCP(target)
	if err != nil {
		fmt.Fprintln(os.Stderr, "quicpeer:", err)
		return
	}
	defer far.Close()
	go func() {
		io.Copy(near, far)
		near.Close()
	}()
	io.Copy(far, near)
}
