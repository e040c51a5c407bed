package handler

// untorn are the pieces of a response while filters of the request may end the call:
// between two of its messages, since a client takes what follows inside one for the
// rest of that.
type untorn struct {
	frames
	call *call
}

func (u *untorn) next() ([]byte, error) {
	between := u.left == 0
	if between {
		if err := u.call.noteInside(false); err != nil {
			return nil, err
		}
	}
	b, err := u.frames.next()
	if err == nil && between && u.left > 0 {
		err = u.call.noteInside(true)
	}
	return b, err
}

// noteInside notes whether the client has, or gets now, a part of a message without its
// end. The error is how a filter of the request has ended the call, if one has.
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
