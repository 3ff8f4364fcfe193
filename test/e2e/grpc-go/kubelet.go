package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// longBytes is from where on a text or an answer is told by its digest.
const longBytes = 2048

// outcome is what a caller gets.
type outcome struct {
	Code uint32 `json:"code"`
	Text string `json:"text"`
	// Answer is a unary call's, in base64; or the digest of all messages of a stream.
	Answer string `json:"answer"`
	// Bytes are those of all messages.
	Bytes    int                 `json:"bytes"`
	Messages int                 `json:"messages"`
	Trailers map[string][]string `json:"trailers"`
}

type openStream struct {
	// reading is closed when it may be read.
	reading  chan struct{}
	messages int64
}

// fakeKubelet has one grpc.ClientConn, as a kubelet has; its state is guarded by mu.
type fakeKubelet struct {
	socket string
	conn   *grpc.ClientConn
	frames tallies

	mu          sync.Mutex
	connections int
	// streams are those opened, by the names that the test gave them.
	streams map[string]*openStream
}

func beKubelet(arguments []string) error {
	flags := flag.NewFlagSet("kubelet", flag.ExitOnError)
	flags.Parse(arguments)
	k := &fakeKubelet{socket: flags.Arg(0), streams: map[string]*openStream{}}
	return obey(map[string]command{
		"dial":     k.dial,
		"ready":    k.ready,
		"call":     k.call,
		"stream":   k.stream,
		"read":     k.read,
		"received": k.received,
		"seen":     k.seen,
	})
}

// dial does as a kubelet (pkg/kubelet/cri/remote, cri-client): no TLS, a dialer of its own, no keepalive.
func (k *fakeKubelet) dial(arguments json.RawMessage) (interface{}, error) {
	var asked struct {
		// TimeoutMs is how long it may take with Block.
		TimeoutMs int
		// ConnectMs is how long a connection may take until the server's SETTINGS are there.
		ConnectMs int
		// Block: the dialling waits for that, as that of kubelets up to 1.26 and of crictl does.
		Block bool
	}
	if err := json.Unmarshal(arguments, &asked); err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(asked.TimeoutMs)
	defer cancel()
	delays := backoff.DefaultConfig
	delays.MaxDelay = 3 * time.Second
	options := []grpc.DialOption{
		grpc.WithInsecure(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           delays,
			MinConnectTimeout: time.Duration(asked.ConnectMs) * time.Millisecond,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		grpc.WithContextDialer(k.connect),
	}
	if asked.Block {
		options = append(options, grpc.WithBlock())
	}
	conn, err := grpc.DialContext(ctx, k.socket, options...)
	if err != nil {
		return nil, err
	}
	k.conn = conn
	return nil, nil
}

// ready waits for the server's SETTINGS.
func (k *fakeKubelet) ready(arguments json.RawMessage) (interface{}, error) {
	var asked struct{ TimeoutMs int }
	if err := json.Unmarshal(arguments, &asked); err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(asked.TimeoutMs)
	defer cancel()
	for state := k.conn.GetState(); state != connectivity.Ready; state = k.conn.GetState() {
		if !k.conn.WaitForStateChange(ctx, state) {
			return nil, ctx.Err()
		}
	}
	return nil, nil
}

func withTimeout(ms int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Duration(ms)*time.Millisecond)
}

func (k *fakeKubelet) connect(ctx context.Context, path string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	k.connections++
	k.mu.Unlock()
	return k.frames.count(conn, true), nil
}

func (k *fakeKubelet) call(arguments json.RawMessage) (interface{}, error) {
	var asked struct {
		Path      string
		Request   []byte
		TimeoutMs int
	}
	if err := json.Unmarshal(arguments, &asked); err != nil {
		return nil, err
	}
	ctx, cancel := withTimeout(asked.TimeoutMs)
	defer cancel()
	var answer []byte
	var trailers metadata.MD
	err := k.conn.Invoke(ctx, asked.Path, &asked.Request, &answer, grpc.Trailer(&trailers))
	found := ending(err, trailers)
	if err == nil {
		found.Messages, found.Bytes = 1, len(answer)
		found.Answer = base64.StdEncoding.EncodeToString(answer)
		if len(answer) > longBytes {
			found.Answer = digestOf(answer)
		}
	}
	return found, nil
}

// stream opens a server stream and reads it to its end, or until it has so many messages; or not at all, until it is told to.
func (k *fakeKubelet) stream(arguments json.RawMessage) (interface{}, error) {
	var asked struct {
		Name, Path string
		Request    []byte
		Messages   int
		Unread     bool
	}
	if err := json.Unmarshal(arguments, &asked); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	opened := &openStream{reading: make(chan struct{})}
	k.mu.Lock()
	k.streams[asked.Name] = opened
	k.mu.Unlock()
	stream, err := k.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, asked.Path)
	if err != nil {
		return ending(err, nil), nil
	}
	// Where the stream has ended meanwhile, RecvMsg says why.
	if stream.SendMsg(&asked.Request) == nil {
		stream.CloseSend()
	}
	if asked.Unread {
		<-opened.reading
	}
	all := sha256.New()
	messages, bytes := 0, 0
	for asked.Messages == 0 || messages < asked.Messages {
		var message []byte
		if err = stream.RecvMsg(&message); err != nil {
			break
		}
		messages++
		atomic.StoreInt64(&opened.messages, int64(messages))
		bytes += len(message)
		all.Write(message)
	}
	if err == io.EOF {
		err = nil
	}
	found := ending(err, stream.Trailer())
	found.Answer, found.Messages, found.Bytes = hex.EncodeToString(all.Sum(nil)), messages, bytes
	return found, nil
}

func (k *fakeKubelet) read(arguments json.RawMessage) (interface{}, error) {
	var asked struct{ Name string }
	if err := json.Unmarshal(arguments, &asked); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.streams[asked.Name].reading)
	return nil, nil
}

// received says how many messages a stream has had, and nothing of one that is just being opened.
func (k *fakeKubelet) received(arguments json.RawMessage) (interface{}, error) {
	var asked struct{ Name string }
	if err := json.Unmarshal(arguments, &asked); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if opened := k.streams[asked.Name]; opened != nil {
		return atomic.LoadInt64(&opened.messages), nil
	}
	return nil, nil
}

func (k *fakeKubelet) seen(json.RawMessage) (interface{}, error) {
	received, sent := k.frames.received.seen(), k.frames.sent.seen()
	k.mu.Lock()
	defer k.mu.Unlock()
	return map[string]interface{}{"connections": k.connections, "received": received, "sent": sent}, nil
}

func ending(err error, trailers metadata.MD) outcome {
	result := status.Convert(err)
	found := outcome{Code: uint32(result.Code()), Text: short(result.Message()), Trailers: map[string][]string{}}
	for name, values := range trailers {
		for _, value := range values {
			found.Trailers[name] = append(found.Trailers[name], short(value))
		}
	}
	return found
}

// short is a text, or its length and digest where it is long.
func short(text string) string {
	if len(text) <= longBytes {
		return text
	}
	return digestOf([]byte(text))
}

func digestOf(bytes []byte) string {
	digest := sha256.Sum256(bytes)
	return fmt.Sprintf("%d bytes, sha256 %s", len(bytes), hex.EncodeToString(digest[:]))
}
