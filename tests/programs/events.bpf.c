/* SPDX-License-Identifier: MIT */
/*
 * events.bpf.c - programs of several types that count events in one map: only keys that user
 * space has put there, so that the numbers are exact.
 */
#include <arenads/bpf.h>

ADS_ARENA(ADS_MIB);
ADS_HASHMAP(counts, __u64, __u64, 64);
ADS_QUEUE(inbox, __u64, 4);

char LICENSE[] SEC("license") = "GPL";

/* What happened in the key's high half, to whom in its low half. */
enum { CALL, RETURN, PACKET, CONNECT, RUN };

#define KEY(event, who) ((__u64)(event) << 48 | (who))

static ADS_INLINE void count(__u64 key)
{
	__u64 __arena *counter = counts_lookup(&key);

	if (counter)
		ads_add(counter, 1);
}

/* One process's calls of one system call: number in the low 16 bits, process above. */
SEC("raw_tp/sys_enter") int count_calls(__u64 *arguments)
{
	count(KEY(CALL, (bpf_get_current_pid_tgid() >> 32) << 16 | (arguments[1] & 0xffff)));
	return 0;
}

SEC("raw_tp/sys_exit") int count_returns(__u64 *arguments)
{
	(void)arguments;
	count(KEY(RETURN, bpf_get_current_pid_tgid() >> 32));
	return 0;
}

/* The kernel's struct xdp_md and struct bpf_sock_addr, as far as they are needed. */
struct packet {
	__u32 data;
	__u32 data_end;
};

struct address {
	__u32 user_family;
	__u32 user_ip4;
	__u32 user_ip6[4];
	__u32 user_port;
};

struct udp_packet {
	__u8 ethernet[12];
	__u8 type[2];
	__u8 ip[9];
	__u8 protocol;
	__u8 addresses[10];
	__u8 from[2];
	__u8 to[2];
};

/* UDP packets by the port that they go to. */
SEC("xdp") int count_packets(struct packet *packet)
{
	struct udp_packet *udp = (struct udp_packet *)(unsigned long)packet->data;

	if ((void *)(udp + 1) <= (void *)(unsigned long)packet->data_end && udp->type[0] == 8 &&
	    udp->type[1] == 0 && udp->protocol == 17)
		count(KEY(PACKET, (__u64)udp->to[0] << 8 | udp->to[1]));
	return 2; /* pass */
}

/* Connections by the port that they go to; those to port 9 are refused. */
SEC("cgroup/connect4") int count_connections(struct address *address)
{
	__u32 port = (address->user_port & 0xff) << 8 | (address->user_port >> 8 & 0xff);

	count(KEY(CONNECT, port));
	return port != 9;
}

struct sum {
	__s64 first;
	__s64 second;
	__s64 sum;
};

SEC("syscall") int add(struct sum *sum)
{
	sum->sum = sum->first + sum->second;
	count(KEY(RUN, 0));
	return (int)sum->sum;
}

SEC("syscall") int store(struct sum *sum)
{
	__u64 key = sum->first, value = sum->second;

	return counts_update(&key, &value);
}
