/* SPDX-License-Identifier: MIT */
/*
 * history.bpf.c - the actors of history.h as BPF programs: those that are run, and those that
 * interrupt whatever runs on their CPU, operations of the others too.
 */
#include "history.h"

char LICENSE[] SEC("license") = "GPL";

struct allocation {
	__u64 bytes;
	__u64 offset;
};

/* Which rings there are, for actors of that kind. */
SEC("syscall") int use_rings(struct allocation *words)
{
	return history_rings_know(words->offset);
}

/* A raw block, for a log or the clock. */
SEC("syscall") int allocate(struct allocation *allocation)
{
	__u32 offset = 0;
	int rc = ads_alloc(ads_here(), allocation->bytes, &offset);

	allocation->offset = offset;
	return rc;
}
