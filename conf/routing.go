package conf

// ValidateRouting is Validate for a Config whose listeners are somebody
// else's: it leaves them out.
func (c *Config) ValidateRouting() error {
	r := newReport("")
	v := newValidator(r, c)
	v.allButListeners()
	return r.err()
}
