package websocket

import (
	"context"
	"encoding/json"
	"io"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// responses sends what the backend says to the client, up to the end of the call,
// and returns that: nil for OK.
func (s *session) responses() error {
	gone := false
	for {
		m := s.call.NewResponse()
		switch err := s.stream.RecvMsg(m); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if !gone {
			text, err := s.result(m)
			if err != nil {
				return err
			}
			if s.write(text) != nil { // the reader may know that what has been sent is still to get there
				gone = true
				_ = s.net.Close()
				defer time.AfterFunc(s.opts.LingerTimeout, func() { s.cancel(errGone) }).Stop()
			}
		}
		if !s.call.ServerStreams {
			return nil
		}
	}
}

// result returns the text for a response message. The error has a gRPC status.
func (s *session) result(m proto.Message) (text []byte, err error) {
	if s.call.Result != nil {
		text, err = s.call.Result(m)
	} else {
		text, err = s.call.Codec.Marshal(m)
		text = member("result", text)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "the response has a message that cannot be written as JSON: %v", err)
	}
	return text, nil
}

// failure returns the text for an error, nil for none.
func (s *session) failure(err error) []byte {
	if s.call.Error != nil {
		return s.call.Error(err)
	}
	st := status.Convert(err)
	text, err := s.call.Codec.Marshal(st.Proto())
	if err != nil { // by details of a type that is not known
		message, _ := json.Marshal(st.Message()) // a string always can be
		text = []byte(`{"code":` + strconv.Itoa(int(st.Code())) + `,"message":` + string(message) + `}`)
	}
	return member("error", text)
}

// member returns an object of one member.
func member(name string, value []byte) []byte {
	b := make([]byte, 0, len(name)+len(value)+5)
	b = append(b, `{"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	b = append(b, value...)
	return append(b, '}')
}

// write sends a text message. The connection is lost if that fails.
func (s *session) write(text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.WriteTimeout)
	defer cancel()
	defer s.moves.Add(2)
	return s.conn.Write(ctx, websocket.MessageText, text)
}
