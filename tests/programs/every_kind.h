/* every_kind.h - the records of every_kind.c. */
#ifndef EVERY_KIND_H
#define EVERY_KIND_H

enum state { STATE_RUNNING = 1, STATE_SLEEPING = 2 };

struct task {
	unsigned long long calls;
	enum state state;
	int delta;
	char comm[16];
	struct task __arena *parent; /* an element of the array `slots`, or NULL */
};

struct job {
	unsigned int pid;
	unsigned int level;
	struct ads_node ready; /* in the intrusive list `ready` */
	struct job __arena *next; /* that was made before this one */
};

#endif
