/* thaw SECONDS.MICROSECONDS HEX: after a snapshot was restored, set the clock and give the random number generator
 * new secrets, so that no two machines started from one snapshot are alike. SPDX-License-Identifier: MIT
 *
 * Freestanding: no C library, so it starts in a fraction of the time. System calls as in
 * Documentation/arch/arm64 and include/uapi of the kernel. */

#define AT_FDCWD -100
#define O_RDWR 2
#define SYS_ioctl 29
#define SYS_openat 56
#define SYS_exit 93
#define SYS_clock_settime 112
#define CLOCK_REALTIME 0
#define RNDADDENTROPY 0x40085203 /* _IOW('R', 0x03, int[2]) */
#define RNDRESEEDCRNG 0x5207 /* _IO('R', 0x07) */
#define SEED_BYTES 32

static long call(long number, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}

static const char *number(const char *text, long *value)
{
	for (*value = 0; *text >= '0' && *text <= '9'; text++)
		*value = *value * 10 + *text - '0';
	return text;
}

static int nibble(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Which step failed, for the exit code. */
static int thaw(const char *when, const char *seed)
{
	struct { int bits, bytes; unsigned char pool[SEED_BYTES]; } entropy = { SEED_BYTES * 8, SEED_BYTES, { 0 } };
	long time[2];
	long random;
	int i;

	when = number(when, &time[0]);
	if (*when == '.')
		number(when + 1, &time[1]);
	else
		time[1] = 0;
	time[1] *= 1000;
	if (call(SYS_clock_settime, CLOCK_REALTIME, (long)time, 0, 0))
		return 3;
	for (i = 0; i < SEED_BYTES && seed[2 * i] && seed[2 * i + 1]; i++)
		entropy.pool[i] = nibble(seed[2 * i]) << 4 | nibble(seed[2 * i + 1]);
	random = call(SYS_openat, AT_FDCWD, (long)"/dev/urandom", O_RDWR, 0);
	if (random < 0)
		return 4;
	if (call(SYS_ioctl, random, RNDADDENTROPY, (long)&entropy, 0))
		return 5;
	return call(SYS_ioctl, random, RNDRESEEDCRNG, 0, 0) ? 6 : 0;
}

__attribute__((used)) void begin(long *stack)
{
	const char **argv = (const char **)(stack + 1);

	call(SYS_exit, stack[0] == 3 ? thaw(argv[1], argv[2]) : 2, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov x29, xzr\n mov x30, xzr\n mov x0, sp\n b begin\n");
