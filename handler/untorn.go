package handler

// untorn are the pieces of a response while filters of the request may end the call:
// between two of its messages, since a client takes what follows inside one for the
// rest of that.
type untorn struct {
	frames
	call *call
}

func (u *untorn) next() ([]byte, error) {
	if u.left == 0 {
		if err := u.call.betweenMessages(); err != nil {
			return nil, err
		}
	}
	begins := u.left == 0
	b, err := u.frames.next()
	if err == nil && begins && u.left > 0 {
		err = u.call.insideMessage()
	}
	return b, err
}

// betweenMessages notes that the client has all of the messages that it has any of. The
// error is how a filter of the request has ended the call, if one has.
func (c *call) betweenMessages() error { return c.noteInside(false) }

// insideMessage notes that the client gets the first part of a message; see
// betweenMessages.
func (c *call) insideMessage() error { return c.noteInside(true) }

func (c *call) noteInside(inside bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answer != nil {
		c.inside = false
		return c.answer
	}
	c.inside = inside
	return nil
}
