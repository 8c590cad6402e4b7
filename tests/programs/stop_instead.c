/* SPDX-License-Identifier: MIT */
/* stop_instead.c - preloaded into victim.py: who would kill itself stops instead. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

int kill(pid_t pid, int number)
{
	return (int)syscall(SYS_kill, pid, number == SIGKILL && pid == getpid() ? SIGSTOP : number);
}
