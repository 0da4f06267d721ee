/* bpfattach KIND FUNCTION [KIND FUNCTION]...: attach BPF programs to functions of the kernel until killed. KIND is
 * fentry, fexit, multi (kprobe.multi) or multiret (kretprobe.multi); FUNCTION is a name, MODULE:NAME where a module
 * has it (fentry, fexit), or NAME,NAME,... (multi, multiret). SPDX-License-Identifier: MIT
 *
 * Prints "attached" when all of them are. At every SIGUSR1 it prints a line for each program, "KIND FUNCTION calls N
 * argument X result X stack X...", and "end". The programs are so small that they are written here, instruction by
 * instruction: they count the calls and keep the last one's first argument, result and stack.
 *
 * Freestanding like thaw.c. Layouts and numbers are those of the kernel's include/uapi/linux/bpf.h and btf.h. */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define AT_FDCWD -100
#define SIGUSR1 10
#define SIG_BLOCK 0
#define SYS_openat 56
#define SYS_close 57
#define SYS_read 63
#define SYS_write 64
#define SYS_exit 93
#define SYS_rt_sigprocmask 135
#define SYS_rt_sigtimedwait 137
#define SYS_mmap 222
#define SYS_bpf 280

enum { MAP_CREATE = 0, MAP_LOOKUP = 1, PROG_LOAD = 5, OBJ_INFO = 15, TRACING_ATTACH = 17, BTF_FD = 19, BTF_NEXT = 23,
       LINK_CREATE = 28 };
enum { MAP_TYPE_ARRAY = 2, PROG_TYPE_KPROBE = 2, PROG_TYPE_TRACING = 26 };
enum { TRACE_FENTRY = 24, TRACE_FEXIT = 25, TRACE_KPROBE_MULTI = 42, MULTI_RETURN = 1 };
enum { FUNC_GET_STACK = 67 };

#define MOST_PROGRAMS 8
#define NAME_BYTES 128
#define NAMES_BYTES (16 * NAME_BYTES) /* of all names of one kprobe.multi */
#define BTF_BYTES (32 << 20)
#define FRAMES 32

struct result {
	u64 calls, argument, result;
	long stack_bytes;
	u64 stack[FRAMES];
};

struct program {
	const char *kind, *target;
	int map;
};

static struct program programs[MOST_PROGRAMS];
static int used;

static long call6(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}

static long call(long number, long a, long b, long c, long d)
{
	return call6(number, a, b, c, d, 0, 0);
}

/* The compiler may call these two. */
void *memset(void *to, int byte, u64 size)
{
	for (u64 i = 0; i < size; i++)
		((volatile char *)to)[i] = byte;
	return to;
}

void *memcpy(void *to, const void *from, u64 size)
{
	for (u64 i = 0; i < size; i++)
		((volatile char *)to)[i] = ((const char *)from)[i];
	return to;
}

static u64 length(const char *text)
{
	u64 size = 0;

	while (text[size])
		size++;
	return size;
}

static int equal(const char *one, const char *other, u64 size)
{
	for (u64 i = 0; i < size; i++)
		if (one[i] != other[i])
			return 0;
	return !other[size];
}

static void print(const char *text)
{
	call(SYS_write, 1, (long)text, length(text), 0);
}

static void print_number(const char *before, u64 value, int base)
{
	char text[24], *digit = text + sizeof(text) - 1;

	*digit = '\0';
	do {
		*--digit = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	print(before);
	print(digit);
}

/* Say what failed, with the error's number, and end. What begins with REFUSED is the kernel's answer (run/api/bpf.py),
 * all else a failure of this program, or of what it was given. */
#define REFUSED "the kernel refuses to "
static long must(long ret, const char *what, const char *name)
{
	if (ret >= 0)
		return ret;
	print("bpfattach: ");
	print(name);
	print(": ");
	print(what);
	print_number(": error ", -ret, 10);
	print("\n");
	call(SYS_exit, 1, 0, 0, 0);
	__builtin_unreachable();
}

static long bpf(int command, void *attributes, u32 size)
{
	return call(SYS_bpf, command, (long)attributes, size, 0);
}

/* -- BTF: which number a function has, and how many arguments -- */

struct btf_header {
	u16 magic;
	u8 version, flags;
	u32 header_size, types, types_size, strings, strings_size;
};

struct type {
	u32 name, info, other; /* other: the size, or another type's number */
};

struct btf {
	const char *begin, *strings;
	u64 types_size, strings_size;
	u32 first; /* the number of its first type */
	const struct btf *base;
};

static u32 kind_of(const struct type *type)
{
	return type->info >> 24 & 0x7f;
}

static u32 count_of(const struct type *type)
{
	return type->info & 0xffffff;
}

static const struct type *next_of(const struct type *type)
{
	static const u8 fixed[20] = { [1] = 4, [3] = 12, [14] = 4, [17] = 4 };
	static const u8 each[20] = { [4] = 12, [5] = 12, [6] = 8, [13] = 8, [15] = 12, [19] = 12 };
	u32 kind = kind_of(type);

	return kind < 20 ? (void *)((char *)(type + 1) + fixed[kind] + (u64)each[kind] * count_of(type)) : 0;
}

static struct btf read_btf(const char *name, const struct btf *base)
{
	char path[32 + NAME_BYTES] = "/sys/kernel/btf/";
	struct btf btf = { .first = 1, .base = base };
	const struct btf_header *header;
	u64 size = 0;
	long file, got;
	char *content;

	memcpy(path + length(path), name, length(name) + 1);
	file = must(call(SYS_openat, AT_FDCWD, (long)path, 0, 0), "open", path);
	content = (void *)must(call6(SYS_mmap, 0, BTF_BYTES, 3 /* r, w */, 0x22 /* private, anonymous */, -1, 0), "mmap",
			       path);
	while (size < BTF_BYTES && (got = call(SYS_read, file, (long)content + size, BTF_BYTES - size, 0)) > 0)
		size += got;
	call(SYS_close, file, 0, 0, 0);
	header = (void *)content;
	if (size < sizeof(*header) || header->magic != 0xeb9f || size == BTF_BYTES)
		must(-22, "no BTF that this program can read", path);
	btf.begin = content + header->header_size + header->types;
	btf.types_size = header->types_size;
	btf.strings = content + header->header_size + header->strings;
	btf.strings_size = header->strings_size;
	if (base) {
		const struct type *type = (void *)base->begin;

		for (btf.first = base->first; type && (char *)type < base->begin + base->types_size; btf.first++)
			type = next_of(type);
	}
	return btf;
}

static const char *name_of(const struct btf *btf, u32 offset)
{
	if (!btf->base)
		return offset < btf->strings_size ? btf->strings + offset : "";
	if (offset < btf->base->strings_size)
		return btf->base->strings + offset;
	return offset - btf->base->strings_size < btf->strings_size ?
	       btf->strings + offset - btf->base->strings_size : "";
}

static const struct type *type_of(const struct btf *btf, u32 number)
{
	const struct type *type;
	u32 at;

	if (number < btf->first)
		return btf->base ? type_of(btf->base, number) : 0;
	type = (void *)btf->begin;
	for (at = btf->first; type && (char *)type < btf->begin + btf->types_size; at++) {
		if (at == number)
			return type;
		type = next_of(type);
	}
	return 0;
}

/* The number of the function called `name` in `btf`; its number of arguments goes to *arguments. */
static u32 find_function(const struct btf *btf, const char *name, u32 *arguments)
{
	const struct type *type = (void *)btf->begin, *prototype;
	u32 at;

	for (at = btf->first; type && (char *)type < btf->begin + btf->types_size; at++, type = next_of(type)) {
		if (kind_of(type) != 12 /* FUNC */ || !equal(name, name_of(btf, type->name), length(name)))
			continue;
		prototype = type_of(btf, type->other);
		if (prototype && kind_of(prototype) == 13 /* FUNC_PROTO */) {
			*arguments = count_of(prototype);
			return at;
		}
	}
	must(-2, "BTF has no such function", name);
	return 0;
}

/* A file descriptor of a module's BTF. */
static int module_btf(const char *module)
{
	struct { u32 start, next, flags; } next = { 0 };
	struct { u32 fd, size; u64 info; } ask;
	struct { u64 btf; u32 size, id; u64 name; u32 name_size, is_kernel; } info;
	char name[NAME_BYTES];

	while (!bpf(BTF_NEXT, &next, sizeof(next))) {
		long fd = bpf(BTF_FD, &next.next, sizeof(next.next));

		next.start = next.next;
		if (fd < 0)
			continue; /* it has gone meanwhile */
		memset(&info, 0, sizeof(info));
		memset(name, 0, sizeof(name));
		info.name = (u64)name;
		info.name_size = sizeof(name);
		ask.fd = fd;
		ask.size = sizeof(info);
		ask.info = (u64)&info;
		if (!bpf(OBJ_INFO, &ask, sizeof(ask)) && info.is_kernel && equal(module, name, length(module)))
			return fd;
		call(SYS_close, fd, 0, 0, 0);
	}
	must(-2, "no such module's BTF", module);
	return -1;
}

/* -- the programs -- */

struct instruction {
	u8 code, registers; /* source << 4 | destination */
	short offset;
	int number;
};

#define LOAD(to, from, off) { 0x79, (from) << 4 | (to), off, 0 }
#define STORE(to, off, from) { 0x7b, (from) << 4 | (to), off, 0 }
#define COPY(to, from) { 0xbf, (from) << 4 | (to), 0, 0 }
#define SET(to, value) { 0xb7, to, 0, value }
#define ADD(to, value) { 0x07, to, 0, value }

struct load {
	u32 type, count;
	u64 instructions, license;
	u32 log_level, log_size;
	u64 log;
	u32 version, flags;
	char name[16];
	u32 ifindex, expected;
	u32 btf_fd, func_size;
	u64 funcs;
	u32 func_count, line_size;
	u64 lines;
	u32 line_count, attach_btf_id, attach_btf_fd, unused;
};

/* Load a program that keeps what it sees in `map`. Its context holds the first argument at 0, where there is one, and
 * the result at `result`. */
static int load(struct load *how, int map, int has_argument, int result)
{
	static char log[1 << 16];
	struct instruction code[] = {
		COPY(6, 1),
		{ 0x18, 2 << 4 | 7, 0, map }, { 0 }, /* r7: the map's value */
		SET(1, 1),
		{ 0xdb, 1 << 4 | 7, 0, 0 }, /* calls += 1, atomically */
		LOAD(1, 6, 0),
		STORE(7, 8, 1),
		LOAD(1, 6, result),
		STORE(7, 16, 1),
		COPY(1, 6), COPY(2, 7), ADD(2, 32), SET(3, FRAMES * 8), SET(4, 0),
		{ 0x85, 0, 0, FUNC_GET_STACK },
		STORE(7, 24, 0),
		SET(0, 0),
		{ 0x95, 0, 0, 0 },
	};
	struct instruction none = SET(1, 0);
	long fd;

	if (!has_argument)
		code[5] = none;
	if (result < 0)
		code[7] = none;
	how->instructions = (u64)code;
	how->count = sizeof(code) / sizeof(code[0]);
	how->license = (u64)"GPL";
	fd = bpf(PROG_LOAD, how, sizeof(*how));
	if (fd < 0) {
		how->log_level = 1;
		how->log_size = sizeof(log);
		how->log = (u64)log;
		bpf(PROG_LOAD, how, sizeof(*how));
		print(log);
	}
	return fd;
}

static void attach_trampoline(struct program *program, int is_exit)
{
	struct load how = { .type = PROG_TYPE_TRACING, .expected = is_exit ? TRACE_FEXIT : TRACE_FENTRY };
	struct { u64 name; u32 prog; u32 unused; u64 cookie; } attach = { 0 };
	const char *function = program->target;
	struct btf base = read_btf("vmlinux", 0), own;
	char module[NAME_BYTES];
	u32 arguments;
	u64 i;

	for (i = 0; function[i] && function[i] != ':'; i++)
		;
	if (function[i] && i < sizeof(module)) {
		memcpy(module, function, i);
		module[i] = '\0';
		function += i + 1;
		own = read_btf(module, &base);
		how.attach_btf_id = find_function(&own, function, &arguments);
		how.attach_btf_fd = module_btf(module);
	} else {
		how.attach_btf_id = find_function(&base, function, &arguments);
	}
	attach.prog = must(load(&how, program->map, arguments > 0, is_exit ? (int)arguments * 8 : -1), REFUSED "load",
			   program->target);
	must(bpf(TRACING_ATTACH, &attach, sizeof(attach)), REFUSED "attach", program->target);
}

static void attach_multi(struct program *program, int is_return)
{
	struct load how = { .type = PROG_TYPE_KPROBE, .expected = TRACE_KPROBE_MULTI };
	struct { u32 prog, target, type, flags, multi_flags, count; u64 names, addresses, cookies; } link = { 0 };
	static char names[NAMES_BYTES];
	static const char *each[NAMES_BYTES]; /* as many as fit into `names`, even if all of them are empty */
	u64 size = length(program->target);

	if (size >= sizeof(names))
		must(-7, "the names of its functions are too long together", program->kind);
	memcpy(names, program->target, size + 1);
	for (char *at = names; at; link.count++) {
		each[link.count] = at;
		while (*at && *at != ',')
			at++;
		if (*at)
			*at++ = '\0';
		else
			at = 0;
	}
	link.prog = must(load(&how, program->map, 1, 0), REFUSED "load", program->target);
	link.type = TRACE_KPROBE_MULTI;
	link.multi_flags = is_return ? MULTI_RETURN : 0;
	link.names = (u64)each;
	must(bpf(LINK_CREATE, &link, sizeof(link)), REFUSED "attach", program->target);
}

static void attach(const char *kind, const char *target)
{
	struct { u32 type, key, value, entries, flags; } map = { MAP_TYPE_ARRAY, 4, sizeof(struct result), 1, 0 };
	struct program *program = &programs[used++];

	program->kind = kind;
	program->target = target;
	program->map = must(bpf(MAP_CREATE, &map, sizeof(map)), REFUSED "make a map", target);
	if (equal("fentry", kind, 6))
		attach_trampoline(program, 0);
	else if (equal("fexit", kind, 5))
		attach_trampoline(program, 1);
	else if (equal("multi", kind, 5))
		attach_multi(program, 0);
	else if (equal("multiret", kind, 8))
		attach_multi(program, 1);
	else
		must(-22, "expected fentry, fexit, multi or multiret", kind);
}

static void report(const struct program *program)
{
	struct { u32 map, unused; u64 key, value, flags; } lookup = { 0 };
	struct result found;
	u32 zero = 0;

	lookup.map = program->map;
	lookup.key = (u64)&zero;
	lookup.value = (u64)&found;
	must(bpf(MAP_LOOKUP, &lookup, sizeof(lookup)), REFUSED "look up", program->target);
	print(program->kind);
	print(" ");
	print(program->target);
	print_number(" calls ", found.calls, 10);
	print_number(" argument ", found.argument, 16);
	print_number(" result ", found.result, 16);
	print(" stack");
	for (long i = 0; i < FRAMES && i * 8 < found.stack_bytes; i++)
		print_number(" ", found.stack[i], 16);
	print("\n");
}

__attribute__((used)) void begin(long *stack)
{
	const char **argument = (const char **)(stack + 2);
	u64 signals = 1UL << (SIGUSR1 - 1);

	call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&signals, 0, sizeof(signals));
	for (; argument[0] && argument[1] && used < MOST_PROGRAMS; argument += 2)
		attach(argument[0], argument[1]);
	if (argument[0] || !used)
		must(-22, "expected KIND FUNCTION pairs, eight at most", "arguments");
	print("attached\n");
	for (;;) {
		if (call(SYS_rt_sigtimedwait, (long)&signals, 0, 0, sizeof(signals)) != SIGUSR1)
			continue;
		for (int i = 0; i < used; i++)
			report(&programs[i]);
		print("end\n");
	}
}

__asm__(".globl _start\n_start: mov x29, xzr\n mov x30, xzr\n mov x0, sp\n b begin\n");
