package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/golang/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type call struct {
	Path, Shape string
	Messages    []interface{}
	Metadata    [][2]string
	TimeoutMs   int
	Cancel      bool
}

type seen struct {
	Messages [][2]interface{}    `json:"messages"`
	Metadata map[string][]string `json:"metadata"`
	Code     uint32              `json:"code"`
	Details  string              `json:"details"`
	Trailers map[string][]string `json:"trailers"`
}

func makeCalls(socket string) error {
	var wanted struct {
		Authority string
		Parallel  int
		Gzip      bool
		Calls     []call
	}
	if err := json.NewDecoder(os.Stdin).Decode(&wanted); err != nil {
		return err
	}
	conn, err := dial(socket, wanted.Authority, wanted.Gzip)
	if err != nil {
		return err
	}
	defer conn.Close()
	results := make([]seen, len(wanted.Calls))
	indices := make(chan int)
	var workers sync.WaitGroup
	for n := 0; n < wanted.Parallel; n++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for index := range indices {
				results[index] = wanted.Calls[index].make(conn)
			}
		}()
	}
	for index := range wanted.Calls {
		indices <- index
	}
	close(indices)
	workers.Wait()
	return json.NewEncoder(os.Stdout).Encode(results)
}

// dial does as kubelet 1.26 (pkg/kubelet/cri/remote): the target is the bare path, and so is :authority.
func dial(socket, authority string, gzip bool) (*grpc.ClientConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	callOptions := []grpc.CallOption{grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(maxMessageBytes)}
	if gzip {
		callOptions = append(callOptions, grpc.UseCompressor("gzip"))
	}
	options := []grpc.DialOption{
		grpc.WithInsecure(),
		grpc.WithBlock(),
		grpc.WithDefaultCallOptions(callOptions...),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}),
	}
	if authority != "" {
		options = append(options, grpc.WithAuthority(authority))
	}
	return grpc.DialContext(ctx, socket, options...)
}

func (c call) make(conn *grpc.ClientConn) seen {
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(context.Background(), c.outgoing()))
	defer cancel()
	if c.TimeoutMs > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.TimeoutMs)*time.Millisecond)
		defer cancel()
	}
	found := seen{Messages: [][2]interface{}{}}
	var header, trailer metadata.MD
	var err error
	if c.Shape == "unary" {
		request, answer := c.message(0), []byte(nil)
		err = conn.Invoke(ctx, c.Path, &request, &answer, grpc.Header(&header), grpc.Trailer(&trailer))
		if err == nil {
			found.received(answer)
		}
	} else {
		header, trailer, err = c.stream(ctx, cancel, conn, &found)
	}
	found.Metadata, found.Trailers = printable(header), printable(trailer)
	result := status.Convert(err)
	found.Code, found.Details = uint32(result.Code()), result.Message()
	if len(result.Proto().GetDetails()) > 0 {
		// The library keeps it from the trailers.
		details, _ := proto.Marshal(result.Proto())
		found.Trailers["grpc-status-details-bin"] = []string{base64.StdEncoding.EncodeToString(details)}
	}
	return found
}

func (c call) stream(
	ctx context.Context, cancel func(), conn *grpc.ClientConn, found *seen,
) (header, trailer metadata.MD, err error) {
	desc := &grpc.StreamDesc{ClientStreams: c.Shape != "serverStream", ServerStreams: c.Shape != "clientStream"}
	stream, err := conn.NewStream(ctx, desc, c.Path)
	if err != nil {
		return nil, nil, err
	}
	go func() {
		for n := range c.Messages {
			message := c.message(n)
			if stream.SendMsg(&message) != nil {
				return
			}
		}
		stream.CloseSend()
	}()
	if c.Cancel {
		stream.Header()
		cancel()
	}
	for {
		var answer []byte
		if err = stream.RecvMsg(&answer); err != nil {
			break
		}
		found.received(answer)
		if !desc.ServerStreams {
			break
		}
	}
	if err == io.EOF {
		err = nil
	}
	header, _ = stream.Header()
	return header, stream.Trailer(), err
}

func (c call) outgoing() metadata.MD {
	md := metadata.MD{}
	for _, field := range c.Metadata {
		name, value := field[0], field[1]
		if strings.HasSuffix(name, "-bin") {
			decoded, _ := base64.StdEncoding.DecodeString(value)
			value = string(decoded)
		}
		md.Append(name, value)
	}
	return md
}

// message is the given bytes, or a number of bytes of the pattern.
func (c call) message(index int) []byte {
	if given, ok := c.Messages[index].(string); ok {
		bytes, _ := base64.StdEncoding.DecodeString(given)
		return bytes
	}
	bytes := make([]byte, int(c.Messages[index].(float64)))
	for at := range bytes {
		bytes[at] = byte(at % 251)
	}
	return bytes
}

func (s *seen) received(message []byte) {
	digest := sha256.Sum256(message)
	s.Messages = append(s.Messages, [2]interface{}{len(message), hex.EncodeToString(digest[:])})
}
