package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang/protobuf/ptypes/any"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// serve answers as any-backend.ts does.
func serve(socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer(
		grpc.CustomCodec(rawCodec{}),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.UnknownServiceHandler(handle),
	)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	return server.Serve(listener)
}

func handle(_ interface{}, stream grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(stream)
	request, _ := metadata.FromIncomingContext(stream.Context())
	stream.SetTrailer(trailers(request))
	switch path[strings.LastIndex(path, "/")+1:] {
	case "clientStream":
		return clientStream(stream, request)
	case "serverStream":
		return serverStream(stream, request)
	case "bidi":
		return bidi(stream, request)
	case "hang":
		return hang(stream, request)
	case "left":
		return unary(stream, request, func(message []byte) []byte {
			select {
			case <-departure(request):
			case <-stream.Context().Done():
			}
			return message
		})
	case "RunPodSandbox":
		return unary(stream, request, func(message []byte) []byte {
			digest := sha256.Sum256(message)
			return append([]byte{1<<3 | 2, 64}, hex.EncodeToString(digest[:])...)
		})
	case "PodSandboxStatus":
		return unary(stream, request, func([]byte) []byte { return []byte{1<<3 | 2, 0} })
	default:
		return unary(stream, request, func(message []byte) []byte { return message })
	}
}

func unary(stream grpc.ServerStream, request metadata.MD, answer func([]byte) []byte) error {
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	if err := ending(request); err != nil {
		return err
	}
	begin(stream, request)
	message = answer(message)
	return stream.SendMsg(&message)
}

func clientStream(stream grpc.ServerStream, request metadata.MD) error {
	var all [][]byte
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		all = append(all, message)
	}
	if err := ending(request); err != nil {
		return err
	}
	begin(stream, request)
	message := bytes.Join(all, nil)
	return stream.SendMsg(&message)
}

func serverStream(stream grpc.ServerStream, request metadata.MD) error {
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	begin(stream, request)
	for n := 0; n < 2; n++ {
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
	return ending(request)
}

func bidi(stream grpc.ServerStream, request metadata.MD) error {
	begin(stream, request)
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err == io.EOF {
			return ending(request)
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
}

func hang(stream grpc.ServerStream, request metadata.MD) error {
	begin(stream, request)
	<-stream.Context().Done()
	close(departure(request))
	return status.FromContextError(stream.Context().Err()).Err()
}

var departures sync.Map

// departure is closed when the call that hangs with this key has been left.
func departure(request metadata.MD) chan struct{} {
	found, _ := departures.LoadOrStore(request.Get("x-key")[0], make(chan struct{}))
	return found.(chan struct{})
}

func begin(stream grpc.ServerStream, request metadata.MD) {
	answer := metadata.MD{
		"x-seen":     request.Get("x-asked"),
		"x-seen-bin": request.Get("x-asked-bin"),
		"x-agent":    request.Get("user-agent"),
	}
	if deadline, limited := stream.Context().Deadline(); limited {
		answer.Set("x-timeout-ms", strconv.FormatInt(time.Until(deadline).Milliseconds(), 10))
	}
	received := grpc.ServerTransportStreamFromContext(stream.Context()).(interface{ RecvCompress() string })
	if encoding := received.RecvCompress(); encoding != "" {
		answer.Set("x-encoding", encoding)
	}
	stream.SendHeader(answer)
}

func trailers(request metadata.MD) metadata.MD {
	answer := metadata.Pairs("x-last", "trailer")
	if len(request.Get("x-long")) > 0 {
		answer.Set("x-last-bin", strings.Repeat("\xfa", 6_000))
	}
	return answer
}

func ending(request metadata.MD) error {
	if len(request.Get("x-fail")) == 0 {
		return nil
	}
	failed := &spb.Status{Code: int32(codes.DataLoss), Message: strings.Repeat("lost: ü%\n", 100)}
	if len(request.Get("x-long")) > 0 {
		detail := &any.Any{TypeUrl: "nowhere/v7.Detail", Value: bytes.Repeat([]byte{5}, 13_000)}
		failed.Details = append(failed.Details, detail)
	}
	return status.ErrorProto(failed)
}
