package main

import (
	"encoding/binary"
	"net"
	"sync"
)

const (
	prefaceBytes     = 24
	frameHeaderBytes = 9
	typePing         = 6
	typeGoAway       = 7
	flagAck          = 1
	// In a GOAWAY, before its text: last stream id and error code.
	goAwayBytes = 8
)

// tally is what went one way, over all connections.
type tally struct {
	mu       sync.Mutex
	pings    int
	pingAcks int
	goAways  []string
}

// tallies are what connections of one end have seen.
type tallies struct{ received, sent tally }

type tallySeen struct {
	Pings    int      `json:"pings"`
	PingAcks int      `json:"pingAcks"`
	GoAways  []string `json:"goAways"`
}

func (t *tally) seen() tallySeen {
	t.mu.Lock()
	defer t.mu.Unlock()
	return tallySeen{t.pings, t.pingAcks, append([]string{}, t.goAways...)}
}

// counted is a connection whose PINGs and GOAWAYs are counted as they pass.
type counted struct {
	net.Conn
	received, sent *frameScanner
}

// count reads along: what the client sends begins with the preface.
func (t *tallies) count(conn net.Conn, isClient bool) net.Conn {
	received, sent := &frameScanner{tally: &t.received}, &frameScanner{tally: &t.sent}
	if isClient {
		sent.skip = prefaceBytes
	} else {
		received.skip = prefaceBytes
	}
	return &counted{conn, received, sent}
}

func (c *counted) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	c.received.scan(into[:n])
	return n, err
}

func (c *counted) Write(bytes []byte) (int, error) {
	c.sent.scan(bytes)
	return c.Conn.Write(bytes)
}

// frameScanner finds the frames in a stream of bytes, in chunks as they come.
type frameScanner struct {
	tally *tally
	// header is what has come of a frame header.
	header []byte
	// skip is how many bytes come before the next frame header.
	skip int
	// text is a GOAWAY's payload as far as it has come, and nil in any other frame.
	text []byte
}

func (s *frameScanner) scan(chunk []byte) {
	for len(chunk) > 0 {
		if s.skip > 0 {
			n := min(s.skip, len(chunk))
			if s.text != nil {
				s.text = append(s.text, chunk[:n]...)
			}
			s.skip -= n
			chunk = chunk[n:]
			if s.skip == 0 && s.text != nil {
				s.goAway()
			}
			continue
		}
		n := min(frameHeaderBytes-len(s.header), len(chunk))
		s.header = append(s.header, chunk[:n]...)
		chunk = chunk[n:]
		if len(s.header) == frameHeaderBytes {
			s.begin()
		}
	}
}

func (s *frameScanner) begin() {
	s.skip = int(binary.BigEndian.Uint32(s.header) >> 8)
	kind, flags := s.header[3], s.header[4]
	s.header = s.header[:0]
	switch kind {
	case typePing:
		s.tally.mu.Lock()
		defer s.tally.mu.Unlock()
		if flags&flagAck == 0 {
			s.tally.pings++
		} else {
			s.tally.pingAcks++
		}
	case typeGoAway:
		s.text = []byte{}
	}
}

func (s *frameScanner) goAway() {
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	s.tally.goAways = append(s.tally.goAways, string(s.text[goAwayBytes:]))
	s.text = nil
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}
