// SPDX-License-Identifier: MIT

// Many sessions with little to say, as bench/peers/crowd.py: each writes a message once a second and gets it back.

package bench

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"sort"
	"sync"
	"time"

	kcp "github.com/xtaci/kcp-go/v5"

	"kcpsock/tests/support/gopeer/fatal"
)

const (
	crowdAtOnce = 64 // sessions that wait for their first answer
	crowdPeriod = time.Second
)

func runCrowdServer(o *options) {
	l := openListener(o)
	go func() {
		for {
			s, err := l.AcceptKCP()
			fatal.If(err)
			fatal.If(o.session.Apply(s))
			go func() {
				buffer := make([]byte, 4096)
				for {
					n, err := s.Read(buffer)
					fatal.If(err)
					_, err = s.Write(buffer[:n])
					fatal.If(err)
				}
			}()
		}
	}()
	<-told()
	os.Exit(0)
}

type visitors struct {
	message   []byte
	mutex     sync.Mutex
	latencies []float64
}

// ask writes one message and waits for all of it to come back.
func (v *visitors) ask(s *kcp.UDPSession, answer []byte) {
	start := time.Now()
	_, err := s.Write(v.message)
	fatal.If(err)
	_, err = io.ReadFull(s, answer)
	fatal.If(err)
	took := time.Since(start).Seconds() * 1e6
	if !bytes.Equal(answer, v.message) {
		fatal.Exit("a message came back changed")
	}
	v.mutex.Lock()
	v.latencies = append(v.latencies, took)
	v.mutex.Unlock()
}

func runCrowdClient(o *options) {
	v := &visitors{message: make([]byte, o.size)}
	rand.Read(v.message)
	sessions := make([]*kcp.UDPSession, o.sessions)
	places := make(chan struct{}, crowdAtOnce)
	var arrived sync.WaitGroup
	for i := range sessions {
		places <- struct{}{}
		sessions[i] = dial(o)
		arrived.Add(1)
		go func() {
			v.ask(sessions[i], make([]byte, o.size))
			<-places
			arrived.Done()
		}()
	}
	arrived.Wait()
	fmt.Println("connected", o.sessions)
	v.mutex.Lock()
	v.latencies = nil
	v.mutex.Unlock()
	start := time.Now()
	for i, s := range sessions {
		go func() {
			answer := make([]byte, o.size)
			time.Sleep(crowdPeriod * time.Duration(i) / time.Duration(len(sessions)))
			for ticks := time.Tick(crowdPeriod); ; <-ticks { // a tick that nobody waits for is dropped, not made up for
				v.ask(s, answer)
			}
		}()
	}
	<-told()
	seconds := time.Since(start).Seconds()
	v.mutex.Lock()
	took := v.latencies
	sort.Float64s(took)
	at := func(share int) float64 {
		if len(took) == 0 {
			return 0
		}
		return took[len(took)*share/100]
	}
	report(map[string]any{
		"echoes": len(took), "seconds": seconds, "sessions": o.sessions, "p50_us": at(50), "p99_us": at(99),
	})
	os.Exit(0)
}
