package main

import (
	"context"
	"encoding/json"
	"flag"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// caller asks for the version again and again on one grpc.ClientConn, one call after the other, and notes what fails; its state
// is guarded by mu.
type caller struct {
	socket string
	every  time.Duration

	mu      sync.Mutex
	began   time.Time
	answers int
	// answered is when the last answer came; longest is the longest time between two.
	answered    time.Time
	longest     time.Duration
	dials       int
	failedDials int
	failed      []failedCall
}

type failedCall struct {
	// AtMs is since the caller began.
	AtMs int64  `json:"atMs"`
	Code uint32 `json:"code"`
	Text string `json:"text"`
}

type callerSeen struct {
	Answers     int          `json:"answers"`
	LongestMs   int64        `json:"longestMs"`
	Dials       int          `json:"dials"`
	FailedDials int          `json:"failedDials"`
	Failed      []failedCall `json:"failed"`
}

func beCaller(arguments []string) error {
	flags := flag.NewFlagSet("caller", flag.ExitOnError)
	everyMs := flags.Int("every-ms", 20, "between the beginnings of two calls")
	flags.Parse(arguments)
	c := &caller{socket: flags.Arg(0), every: time.Duration(*everyMs) * time.Millisecond}
	return obey(map[string]command{"begin": c.begin, "seen": c.seen})
}

// begin dials as kubelets from 1.35 on do (cri-client: pauses of 0.1 to 3 s, 5 s for a connection) and returns with the first answer.
func (c *caller) begin(json.RawMessage) (interface{}, error) {
	delays := backoff.DefaultConfig
	delays.BaseDelay = 100 * time.Millisecond
	delays.MaxDelay = 3 * time.Second
	conn, err := grpc.Dial(
		"passthrough:///"+c.socket,
		grpc.WithInsecure(),
		grpc.WithAuthority("localhost"),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: delays, MinConnectTimeout: 5 * time.Second}),
		grpc.WithContextDialer(c.connect),
	)
	if err != nil {
		return nil, err
	}
	c.began, c.answered = time.Now(), time.Now()
	if err := c.call(conn); err != nil {
		return nil, err
	}
	go func() {
		for {
			next := time.Now().Add(c.every)
			c.call(conn)
			time.Sleep(time.Until(next))
		}
	}()
	return nil, nil
}

func (c *caller) call(conn *grpc.ClientConn) error {
	ctx, cancel := withTimeout(120_000)
	defer cancel()
	var request, answer []byte
	err := conn.Invoke(ctx, "/runtime.v1.RuntimeService/Version", &request, &answer)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if err != nil {
		ended := ending(err, nil)
		c.failed = append(c.failed, failedCall{now.Sub(c.began).Milliseconds(), ended.Code, ended.Text})
		return err
	}
	c.answers++
	c.longest = longer(c.longest, now.Sub(c.answered))
	c.answered = now
	return nil
}

func (c *caller) connect(ctx context.Context, path string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dials++
	if err != nil {
		c.failedDials++
	}
	return conn, err
}

// seen tells what came of the calls since it was asked last.
func (c *caller) seen(json.RawMessage) (interface{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	longest := longer(c.longest, time.Since(c.answered)).Milliseconds()
	seen := callerSeen{c.answers, longest, c.dials, c.failedDials, append([]failedCall{}, c.failed...)}
	c.answers, c.longest, c.dials, c.failedDials, c.failed = 0, 0, 0, 0, nil
	return seen, nil
}

func longer(a, b time.Duration) time.Duration {
	if a > b {
		return a
	}
	return b
}
