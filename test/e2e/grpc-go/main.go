// A container runtime and a kubelet, as far as their gRPC goes: both on grpc-go, which polices the PINGs of clients, sends PINGs
// of its own to estimate the bandwidth, and is what kubelets and runtimes are made with. `peer runtime FLAGS SOCKET` serves,
// `peer kubelet SOCKET` calls; what each of them does it is told on stdin (commands.go). Messages are bytes here: what is in
// them is known to the test alone, but for the few fields that a runtime has to fill in.
package main

import (
	"log"
	"os"

	"google.golang.org/grpc/encoding"
)

// rawCodec takes a *[]byte for the message. Registered under the name of the default codec, it leaves `content-type` at
// application/grpc, as that of a kubelet is.
type rawCodec struct{}

func (rawCodec) Marshal(v interface{}) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, v interface{}) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func (rawCodec) Name() string { return "proto" }

func main() {
	encoding.RegisterCodec(rawCodec{})
	roles := map[string]func([]string) error{"runtime": beRuntime, "kubelet": beKubelet, "caller": beCaller}
	if len(os.Args) < 2 || roles[os.Args[1]] == nil {
		log.Fatal("usage: peer runtime|kubelet|caller [FLAGS] SOCKET")
	}
	if err := roles[os.Args[1]](os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}
