/* SPDX-License-Identifier: MIT */
/*
 * helpers.h - SEC() and the BPF helpers that most programs call, for machines that have
 * no libbpf headers. Where <bpf/bpf_helpers.h> can be found it is used instead, so that
 * a program may include it before or after ours.
 *
 * Numbers are those of the kernel's include/uapi/linux/bpf.h, which never change.
 */
#ifndef ARENADS_HELPERS_H
#define ARENADS_HELPERS_H

/* Types that libbpf's header takes for granted. */
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;

#ifndef __BPF_HELPERS__
#if __has_include(<bpf/bpf_helpers.h>)
#include <bpf/bpf_helpers.h>
#else

#ifndef SEC
#define SEC(name) __attribute__((section(name), used))
#endif
#ifndef NULL
#define NULL ((void *)0)
#endif
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif
#ifndef __hidden
#define __hidden __attribute__((visibility("hidden")))
#endif
#define __uint(name, value) int(*name)[value]
#define __type(name, type) type *name

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static long (*const bpf_trace_printk)(const char *format, __u32 size, ...) = (void *)6;
static __u32 (*const bpf_get_prandom_u32)(void) = (void *)7;
static __u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static __u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static __u64 (*const bpf_get_current_uid_gid)(void) = (void *)15;
static long (*const bpf_get_current_comm)(void *buffer, __u32 size) = (void *)16;
static __u64 (*const bpf_get_current_task)(void) = (void *)35;
static __u64 (*const bpf_get_current_cgroup_id)(void) = (void *)80;
static long (*const bpf_probe_read_user)(void *to, __u32 size, const void *from) = (void *)112;
static long (*const bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static long (*const bpf_probe_read_user_str)(void *to, __u32 size, const void *from) = (void *)114;
static long (*const bpf_probe_read_kernel_str)(void *to, __u32 size, const void *from) = (void *)115;
static __u64 (*const bpf_ktime_get_boot_ns)(void) = (void *)125;
static long (*const bpf_ringbuf_output)(void *ring, void *data, __u64 size, __u64 flags) = (void *)130;
static void *(*const bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;
static void (*const bpf_ringbuf_discard)(void *data, __u64 flags) = (void *)133;

#define bpf_printk(format, ...)                                                \
	({                                                                     \
		static const char text[] = format;                             \
		bpf_trace_printk(text, sizeof(text), ##__VA_ARGS__);           \
	})

#endif
#endif /* __BPF_HELPERS__ */

#endif /* ARENADS_HELPERS_H */
