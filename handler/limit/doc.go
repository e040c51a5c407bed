// Package limit has the links that bound calls: how many may begin in a time, how many
// messages clients may send in a time, and how many calls may be under way at once. What
// is beyond ends with RESOURCE_EXHAUSTED.
//
// A limit counts for all calls together, or apart for each key: who calls, from which
// address, which method, or a value of metadata. Who can make up keys, which is anybody
// who chooses metadata or methods, must neither fill the memory nor get rid of what is
// counted. So a limit has room for so many keys, and of those gives up only such that
// have nothing to be remembered: no call has come for so long that all of the limit is
// there again, or no call is under way. Keys that find no room share one limit among
// them. Many new keys thus get as much as the room for them and one limit more, and keys
// that were there before them lose nothing.
//
// All are guards of package intercept: they never wait.
package limit
