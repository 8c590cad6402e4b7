/* SPDX-License-Identifier: MIT */
/*
 * native.h - what a BPF program finds when it is compiled for the host instead.
 *
 * The helpers below answer for the calling thread. Helpers that only make sense in the
 * kernel are not here: a program that calls one does not compile for this engine, and
 * the compiler says which.
 */
#ifndef ARENADS_NATIVE_H
#define ARENADS_NATIVE_H

#include "user.h" /* first: it says which declarations the system headers give */

#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ADS_EXPORT __attribute__((visibility("default")))
#ifndef SEC
#define SEC(name) ADS_EXPORT
#endif
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif

static ADS_INLINE __u64 bpf_ktime_get_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000000000ull + (__u64)now.tv_nsec;
}

static ADS_INLINE __u32 bpf_get_smp_processor_id(void)
{
	return (__u32)sched_getcpu();
}

static ADS_INLINE __u64 bpf_get_current_pid_tgid(void)
{
	return (__u64)getpid() << 32 | (__u32)syscall(SYS_gettid);
}

static ADS_INLINE __u64 bpf_get_current_uid_gid(void)
{
	return (__u64)getgid() << 32 | getuid();
}

static inline long bpf_get_current_comm(void *buffer, __u32 size)
{
	char name[16] = {0};

	if (!size)
		return -22;
	if (prctl(PR_GET_NAME, name))
		return -errno;
	memset(buffer, 0, size);
	memcpy(buffer, name, size < sizeof(name) ? size - 1 : sizeof(name) - 1);
	return 0;
}

/* xorshift (Marsaglia, 2003), one state a thread. */
static inline __u32 bpf_get_prandom_u32(void)
{
	static __thread __u64 state;

	if (!state)
		state = (bpf_ktime_get_ns() ^ ((__u64)syscall(SYS_gettid) << 40)) | 1;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (__u32)(state >> 32);
}

#define bpf_printk(format, ...) fprintf(stderr, format "\n", ##__VA_ARGS__)

#endif /* ARENADS_NATIVE_H */
