// Command interopclient runs one of gRPC's official interoperability tests, as
// grpc-go's own google.golang.org/grpc/interop/client does: the same test
// functions behind the same flags. What is missing is that program's cloud
// credentials and xDS, since what these import is not among this module's
// dependencies and no proxy test needs them.
//
// The functions end the process at the first failure. That is why they run in
// a process of their own.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

var (
	host           = flag.String("server_host", "127.0.0.1", "the server's host")
	port           = flag.Int("server_port", 10000, "the server's port")
	testCase       = flag.String("test_case", "large_unary", "the test to run")
	serviceConfig  = flag.String("service_config_json", "", "the client's service config")
	soakIterations = flag.Int("soak_iterations", 10, "iterations of the soak tests")
	soakLatencyMs  = flag.Int("soak_per_iteration_max_acceptable_latency_ms", 1000, "what one iteration may take")
	soakTimeout    = flag.Int("soak_overall_timeout_seconds", 10, "what all iterations may take")
)

func main() {
	flag.Parse()
	addr := net.JoinHostPort(*host, strconv.Itoa(*port))
	dial := func() *grpc.ClientConn {
		opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
		if *serviceConfig != "" {
			opts = append(opts, grpc.WithDisableServiceConfig(), grpc.WithDefaultServiceConfig(*serviceConfig))
		}
		cc, err := grpc.NewClient(addr, opts...)
		if err != nil {
			log.Fatal(err)
		}
		return cc
	}
	cc := dial()
	defer func() { _ = cc.Close() }()
	run(cc, dial, interop.SoakTestConfig{
		RequestSize:                      271828,
		ResponseSize:                     314159,
		PerIterationMaxAcceptableLatency: time.Duration(*soakLatencyMs) * time.Millisecond,
		OverallTimeout:                   time.Duration(*soakTimeout) * time.Second,
		ServerAddr:                       addr,
		NumWorkers:                       1,
		Iterations:                       *soakIterations,
	})
}

// run does the test that -test_case names.
func run(cc *grpc.ClientConn, dial func() *grpc.ClientConn, soak interop.SoakTestConfig) {
	ctx := context.Background()
	client := testgrpc.NewTestServiceClient(cc)
	switch *testCase {
	case "empty_unary":
		interop.DoEmptyUnaryCall(ctx, client)
	case "large_unary":
		interop.DoLargeUnaryCall(ctx, client)
	case "client_streaming":
		interop.DoClientStreaming(ctx, client)
	case "server_streaming":
		interop.DoServerStreaming(ctx, client)
	case "ping_pong":
		interop.DoPingPong(ctx, client)
	case "empty_stream":
		interop.DoEmptyStream(ctx, client)
	case "timeout_on_sleeping_server":
		interop.DoTimeoutOnSleepingServer(ctx, client)
	case "cancel_after_begin":
		interop.DoCancelAfterBegin(ctx, client)
	case "cancel_after_first_response":
		interop.DoCancelAfterFirstResponse(ctx, client)
	case "status_code_and_message":
		interop.DoStatusCodeAndMessage(ctx, client)
	case "special_status_message":
		interop.DoSpecialStatusMessage(ctx, client)
	case "custom_metadata":
		interop.DoCustomMetadata(ctx, client)
	case "unimplemented_method":
		interop.DoUnimplementedMethod(ctx, cc)
	case "unimplemented_service":
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(cc))
	case "pick_first_unary":
		interop.DoPickFirstUnary(ctx, client)
	case "orca_per_rpc":
		interop.DoORCAPerRPCTest(ctx, client)
	case "orca_oob":
		interop.DoORCAOOBTest(ctx, client)
	case "rpc_soak", "channel_soak":
		soak.ChannelForTest = func() (*grpc.ClientConn, func()) { return cc, func() {} }
		if *testCase == "channel_soak" {
			soak.ChannelForTest = func() (*grpc.ClientConn, func()) {
				fresh := dial()
				return fresh, func() { _ = fresh.Close() } // it is no longer of interest
			}
		}
		ctx, cancel := context.WithTimeout(ctx, soak.OverallTimeout)
		defer cancel()
		interop.DoSoakTest(ctx, soak)
	default:
		log.Fatalf("unsupported test case %q", *testCase)
	}
}
