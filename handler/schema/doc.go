// Package schema is where the types of messages come from at run time, without
// generated code: .proto sources (Compile), a descriptor set (Read), or what a
// backend says of itself (Reflect). Each gives a Schema, an immutable snapshot;
// Live keeps one that is fetched up to date.
//
// Descriptors are input from the network here. Whatever they are, they lead to
// an error rather than to a panic, and to no work or memory out of all
// proportion to their size.
package schema
