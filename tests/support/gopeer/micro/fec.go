// SPDX-License-Identifier: MIT

package micro

import (
	"bytes"
	"crypto/rand"

	"github.com/klauspost/reedsolomon"

	"kcpsock/tests/support/gopeer/fatal"
)

const sizeBytes = 2 // each packet's length is coded with it, as kcp-go and kcpsock have it on the wire

// fecWork is the code alone, without what kcp-go does around it: it copies each packet that comes or goes, and keeps what
// it receives in maps and heaps. That is not exported.
func fecWork(o *options) work {
	codec, err := reedsolomon.New(o.data, o.parity)
	fatal.If(err)
	group := make([][]byte, o.data+o.parity)
	for i := range group {
		group[i] = make([]byte, sizeBytes+o.bytes)
		rand.Read(group[i])
	}
	fatal.If(codec.Encode(group))
	total := o.groups * o.data * o.bytes
	switch o.op {
	case "encode":
		return work{func() {}, func() {
			for range o.groups {
				fatal.If(codec.Encode(group))
			}
		}, total}
	case "decode":
		if o.losses < 1 || o.losses > o.parity || o.losses > o.data {
			fatal.Exit("--losses %d: 1 to %d", o.losses, min(o.parity, o.data))
		}
		d := &decoding{codec: codec, group: group, data: o.data, losses: o.losses}
		d.arrived = make([][]byte, len(group))
		for range o.losses {
			d.spare = append(d.spare, make([]byte, 0, sizeBytes+o.bytes))
		}
		for number := range o.data {
			d.next(number)
			for i := range o.data {
				if !bytes.Equal(d.arrived[i], group[i]) {
					fatal.Exit("group %d: packet %d was not rebuilt", number, i)
				}
			}
		}
		return work{func() {}, func() {
			for number := range o.groups {
				d.next(number)
			}
		}, total}
	}
	fatal.Exit("fec --op %q: encode or decode is allowed", o.op)
	return work{}
}

// decoding rebuilds the same group again and again; what is lost changes from one to the next.
type decoding struct {
	codec          reedsolomon.Encoder
	group, arrived [][]byte
	spare          [][]byte // empty, with room: where the library puts what it rebuilds
	data, losses   int
}

// next: as soon as `data` packets are there, kcp-go rebuilds; parity packets that come later are not looked at.
func (d *decoding) next(number int) {
	lost := 0
	for i := range d.group {
		switch {
		case i < d.data && (i+number)%d.data < d.losses:
			d.arrived[i] = d.spare[lost]
			lost++
		case i < d.data+d.losses:
			d.arrived[i] = d.group[i]
		default:
			d.arrived[i] = nil
		}
	}
	fatal.If(d.codec.ReconstructData(d.arrived))
}
