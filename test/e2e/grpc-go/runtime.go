package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// maxMessageBytes is what containerd takes.
const maxMessageBytes = 16 << 20

// rule is how the calls of one method are answered: with nothing, but for those in defaultAnswer.
type rule struct {
	// DelayMs are the least and the longest time that a call takes.
	DelayMs [2]int
	// Held: calls take until the method is released.
	Held bool
	// Answers are the messages of the answer, in base64.
	Answers [][]byte
	// Code other than 0: the calls fail, with this text.
	Code uint32
	Text string
	// TrailerBytes is the length of one field of the trailers.
	TrailerBytes int
}

type event struct {
	message []byte
	number  uint64
}

// fakeRuntime serves any method; its state is guarded by mu.
type fakeRuntime struct {
	server *grpc.Server
	frames tallies

	mu    sync.Mutex
	rules map[string]rule
	// released is closed when the method's calls go on.
	released map[string]chan struct{}
	// open and begun count calls by method.
	open, begun map[string]int
	connections int
	made        int
	events      []event
	// emitted is closed, and replaced, when there are more events.
	emitted chan struct{}
}

func beRuntime(arguments []string) error {
	flags := flag.NewFlagSet("runtime", flag.ExitOnError)
	maxStreams := flags.Uint("max-streams", 0, "MAX_CONCURRENT_STREAMS; 0: none")
	keepaliveMs := flags.Int("keepalive-ms", 0, "PINGs of the server's own after this silence, and their timeout; 0: none")
	flags.Parse(arguments)
	listener, err := net.Listen("unix", flags.Arg(0))
	if err != nil {
		return err
	}
	r := &fakeRuntime{
		rules:    map[string]rule{},
		released: map[string]chan struct{}{},
		open:     map[string]int{},
		begun:    map[string]int{},
		emitted:  make(chan struct{}),
	}
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.MaxSendMsgSize(maxMessageBytes),
		grpc.UnknownServiceHandler(r.handle),
	}
	if *maxStreams > 0 {
		options = append(options, grpc.MaxConcurrentStreams(uint32(*maxStreams)))
	}
	if *keepaliveMs > 0 {
		silence := time.Duration(*keepaliveMs) * time.Millisecond
		options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{Time: silence, Timeout: silence}))
	}
	r.server = grpc.NewServer(options...)
	go r.server.Serve(&countedListener{listener, r})
	return obey(map[string]command{
		"set":          r.set,
		"release":      r.release,
		"emit":         r.emit,
		"gracefulStop": r.gracefulStop,
		"seen":         r.seen,
	})
}

type countedListener struct {
	net.Listener
	runtime *fakeRuntime
}

func (l *countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.runtime.mu.Lock()
	l.runtime.connections++
	l.runtime.mu.Unlock()
	return l.runtime.frames.count(conn, false), nil
}

func (r *fakeRuntime) handle(_ interface{}, stream grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(stream)
	method := path[strings.LastIndex(path, "/")+1:]
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	rule, released := r.begin(method)
	defer r.end(method)
	if method == "GetContainerEvents" {
		return r.subscribe(stream)
	}
	if err := work(stream, rule, released); err != nil {
		return err
	}
	if rule.TrailerBytes > 0 {
		stream.SetTrailer(metadata.Pairs("x-long-bin", strings.Repeat("\xfa", rule.TrailerBytes)))
	}
	if rule.Code != 0 {
		return status.Error(codes.Code(rule.Code), rule.Text)
	}
	answers := rule.Answers
	if answers == nil {
		answers = [][]byte{r.defaultAnswer(method, request)}
	}
	for n := range answers {
		if err := stream.SendMsg(&answers[n]); err != nil {
			return err
		}
	}
	return nil
}

// begin counts a call; the channel is nil unless the call is held.
func (r *fakeRuntime) begin(method string) (rule, chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun[method]++
	r.open[method]++
	return r.rules[method], r.released[method]
}

func (r *fakeRuntime) end(method string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[method]--
}

// work takes its time, but ends when its caller leaves, as a runtime's does.
func work(stream grpc.ServerStream, rule rule, released chan struct{}) error {
	delay := time.Duration(rule.DelayMs[0]+rand.Intn(rule.DelayMs[1]-rule.DelayMs[0]+1)) * time.Millisecond
	select {
	case <-time.After(delay):
	case <-stream.Context().Done():
	}
	if released != nil {
		select {
		case <-released:
		case <-stream.Context().Done():
		}
	}
	if err := stream.Context().Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	return nil
}

// defaultAnswer has an id of its own for what is made, and the id asked for, as READY or CREATED, in a status.
func (r *fakeRuntime) defaultAnswer(method string, request []byte) []byte {
	switch method {
	case "RunPodSandbox", "CreateContainer":
		r.mu.Lock()
		defer r.mu.Unlock()
		r.made++
		return field(1, []byte(fmt.Sprintf("made-%d", r.made)))
	case "PodSandboxStatus", "ContainerStatus":
		// The id comes first in the request, and is shorter than 128 bytes.
		return field(1, request[:2+request[1]])
	}
	return []byte{}
}

func (r *fakeRuntime) subscribe(stream grpc.ServerStream) error {
	r.mu.Lock()
	next := len(r.events)
	r.mu.Unlock()
	for {
		r.mu.Lock()
		pending, emitted := r.events[next:], r.emitted
		r.mu.Unlock()
		for _, event := range pending {
			message := event.bytes()
			if err := stream.SendMsg(&message); err != nil {
				return err
			}
		}
		next += len(pending)
		select {
		case <-emitted:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

// bytes are those of the message with its number as `created_at`.
func (e event) bytes() []byte {
	return append(append([]byte(nil), e.message...), append([]byte{3 << 3}, varint(e.number)...)...)
}

func (r *fakeRuntime) set(arguments json.RawMessage) (interface{}, error) {
	var asked struct {
		Method string
		Rule   rule
	}
	if err := json.Unmarshal(arguments, &asked); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules[asked.Method] = asked.Rule
	if asked.Rule.Held && r.released[asked.Method] == nil {
		r.released[asked.Method] = make(chan struct{})
	}
	return nil, nil
}

// release lets go on what is held of a method, and holds no more of it.
func (r *fakeRuntime) release(arguments json.RawMessage) (interface{}, error) {
	var asked struct{ Method string }
	if err := json.Unmarshal(arguments, &asked); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if held := r.released[asked.Method]; held != nil {
		close(held)
		delete(r.released, asked.Method)
	}
	return nil, nil
}

// emit gives the same event, numbered, to all who have subscribed, so many times.
func (r *fakeRuntime) emit(arguments json.RawMessage) (interface{}, error) {
	var asked struct {
		Message []byte
		Times   int
	}
	if err := json.Unmarshal(arguments, &asked); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := 0; n < asked.Times; n++ {
		r.events = append(r.events, event{asked.Message, uint64(len(r.events))})
	}
	close(r.emitted)
	r.emitted = make(chan struct{})
	return nil, nil
}

// gracefulStop is done when all calls have been answered.
func (r *fakeRuntime) gracefulStop(json.RawMessage) (interface{}, error) {
	r.server.GracefulStop()
	return nil, nil
}

func (r *fakeRuntime) seen(json.RawMessage) (interface{}, error) {
	received, sent := r.frames.received.seen(), r.frames.sent.seen()
	r.mu.Lock()
	defer r.mu.Unlock()
	return map[string]interface{}{
		"connections": r.connections,
		"open":        copied(r.open),
		"begun":       copied(r.begun),
		"received":    received,
		"sent":        sent,
	}, nil
}

func copied(counts map[string]int) map[string]int {
	found := map[string]int{}
	for method, count := range counts {
		found[method] = count
	}
	return found
}

// field is a protobuf field of bytes.
func field(number int, value []byte) []byte {
	tagged := append([]byte{byte(number<<3 | 2)}, varint(uint64(len(value)))...)
	return append(tagged, value...)
}

func varint(value uint64) []byte {
	var bytes []byte
	for ; value > 127; value >>= 7 {
		bytes = append(bytes, byte(value)|128)
	}
	return append(bytes, byte(value))
}
