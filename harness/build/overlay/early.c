/* /init of the initramfs for kernels whose disk drivers are modules: inserts what lies in /modules, in the order of the
 * numbers that the names are, mounts the root disk and goes on there. SPDX-License-Identifier: MIT
 *
 * Freestanding, as thaw.c is. */

#define AT_FDCWD -100
#define O_RDONLY 0
#define SYS_mkdirat 34
#define SYS_mount 40
#define SYS_chdir 49
#define SYS_chroot 51
#define SYS_openat 56
#define SYS_close 57
#define SYS_write 64
#define SYS_exit 93
#define SYS_nanosleep 101
#define SYS_execve 221
#define SYS_finit_module 273
#define MS_MOVE 8192
#define ENOENT 2
#define EEXIST 17
#define WAITS 500 /* of 20 ms each: a disk may come up a little after its driver */

static long call(long number, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}

static void say(const char *text)
{
	long length = 0;

	while (text[length])
		length++;
	call(SYS_write, 1, (long)text, length, 0, 0);
}

static void complain(const char *what, const char *which, long error)
{
	char digits[8];
	int at = sizeof(digits);

	digits[--at] = 0;
	for (error = -error; error && at; error /= 10)
		digits[--at] = '0' + error % 10;
	say("harness: ");
	say(what);
	say(which);
	say(": error ");
	say(digits + at);
	say("\n");
}

/* Inserts /modules/000 and so on, up to the first that is not there. */
static void insert_all(void)
{
	char path[] = "/modules/000";
	long file, error;
	int number;

	for (number = 0; number < 1000; number++) {
		path[9] = '0' + number / 100;
		path[10] = '0' + number / 10 % 10;
		path[11] = '0' + number % 10;
		file = call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY, 0, 0);
		if (file < 0)
			return;
		error = call(SYS_finit_module, file, (long)"", 0, 0, 0);
		if (error && error != -EEXIST)
			complain("can't insert ", path, error);
		call(SYS_close, file, 0, 0, 0, 0);
	}
}

static long mount_root(void)
{
	long pause[2] = { 0, 20000000 };
	long error = -ENOENT;
	int waits;

	for (waits = 0; waits < WAITS && error == -ENOENT; waits++) {
		error = call(SYS_mount, (long)"/dev/vda", (long)"/root", (long)"ext4", 0, 0);
		if (error == -ENOENT)
			call(SYS_nanosleep, (long)pause, 0, 0, 0, 0);
	}
	return error;
}

static void go_on(void)
{
	const char *argv[] = { "/harness/harness-init", 0 };
	const char *envp[] = { "HOME=/", "TERM=linux", 0 };
	long error;

	call(SYS_mkdirat, AT_FDCWD, (long)"/root", 0755, 0, 0);
	error = call(SYS_mount, (long)"devtmpfs", (long)"/dev", (long)"devtmpfs", 0, 0);
	if (error)
		return complain("can't mount ", "/dev", error);
	insert_all();
	error = mount_root();
	if (error)
		return complain("can't mount the root file system on ", "/dev/vda", error);
	call(SYS_mount, (long)"/dev", (long)"/root/dev", 0, MS_MOVE, 0);
	call(SYS_chdir, (long)"/root", 0, 0, 0, 0);
	call(SYS_mount, (long)".", (long)"/", 0, MS_MOVE, 0);
	call(SYS_chroot, (long)".", 0, 0, 0, 0);
	call(SYS_chdir, (long)"/", 0, 0, 0, 0);
	error = call(SYS_execve, (long)argv[0], (long)argv, (long)envp, 0, 0);
	complain("can't start ", argv[0], error);
}

__attribute__((used)) void begin(void)
{
	go_on();
	call(SYS_exit, 1, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov x29, xzr\n mov x30, xzr\n b begin\n");
