#!/usr/bin/env bash
# QEMU's emulation with a thread for each CPU can lose a change of code for good: one CPU patches an instruction, with
# all the cache maintenance that the Arm architecture demands, and another CPU that is executing it without a pause goes
# on executing the old one, after any number of ISBs, until that memory is written again. A store to translated code
# discards the translation first and writes afterwards (notdirty_write() in accel/tcg/cputlb.c); a CPU that comes by in
# between translates the old instruction anew. IC IVAU does nothing in system emulation. So in Linux an instruction that
# is patched once under a CPU that loops through it can stay as it was there: a tracer sees none of the calls, a static
# key has no effect, and nothing says so. With all CPUs on one thread (-accel tcg,thread=single) it can't happen.
#
# Since QEMU 8.1 ("accel/tcg: Always lock pages before translation") nothing is translated while the translations of its
# page are discarded, but the lock is released before the write: 10.0.2 (bookworm-backports) and 11.1.3
# (trixie-backports) lost 20 of 637 and of 459 changes in the same way.
#
# Seen with: qemu-system-arm 1:7.2+dfsg-7+deb12u18 (Debian 12) on a host with 2 CPUs; a program without any kernel, made
# with gcc-12-aarch64-linux-gnu 12.2.0-14cross1 and binutils-aarch64-linux-gnu 2.40-2. It printed (how many changes it
# takes to lose 20 is chance):
#   thread=multi:  212 changes, 20 not seen, of these 20 a million calls later, 0 once written again
#   thread=single: 1000 changes, 0 not seen, of these 0 a million calls later, 0 once written again
# Exits with 0 as long as it behaves so. Needs apt of Debian 12, dpkg-deb, and more than one CPU.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
pinned=('qemu-system-arm=1:7.2+dfsg-7+deb12u18*' {gcc,cpp}-12-aarch64-linux-gnu=12.2.0-14cross1
    binutils-aarch64-linux-gnu=2.40-2)
mapfile -t needed < <(apt-get -s --no-install-recommends install "${pinned[@]}" |
    awk '/^Inst/ && $2 !~ /^(qemu-system-arm|(gcc|cpp)-12-aarch64-linux-gnu|binutils-aarch64-linux-gnu)$/ { print $2 }')
apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${pinned[@]}" "${needed[@]}"
for package in ./*.deb; do
    dpkg-deb -x "$package" root
done
LD_LIBRARY_PATH=$(find "$work/root" -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')${LD_LIBRARY_PATH:-}
PATH=$work/root/usr/bin:$PATH
export LD_LIBRARY_PATH PATH
cat > patched.c <<'C'
/*
 * CPU 1 calls patched() without a pause. CPU 0 turns its first instruction from a NOP into a branch or back, which the
 * architecture allows while others execute it, makes that visible as the architecture demands, waits until CPU 1 has
 * executed an ISB after that, and then asks what CPU 1 gets from patched().
 */
typedef unsigned int u32;
typedef unsigned long u64;

#define PATCHES 1000
#define ENOUGH 20
#define NOP 0xd503201fu
#define BRANCH 0x14000003u /* b . + 12 */
#define UART (*(volatile u32 *)0x09000000)
#define asm_now(text) __asm__ volatile(text ::: "memory")

static volatile u32 calls, times, asked, answered, answer;
char stack[2][4096] __attribute__((aligned(16)));
extern u32 patched(void);
extern void second_cpu(void);

__asm__(".pushsection .text.start, \"ax\"\n"
	".global _start\n"
	"_start:	adrp x0, stack + 4096\n"
	"	add sp, x0, :lo12:stack + 4096\n"
	"	b first\n"
	"second_cpu:	mov sp, x0\n" /* where CPU_ON puts its last argument */
	"	b second\n"
	".popsection\n"
	".pushsection .text.patched, \"ax\"\n"
	".balign 4096\n" /* a page of its own */
	"patched:	nop\n"
	"	mov w0, #0\n"
	"	ret\n"
	"	mov w0, #1\n" /* the branch leads here */
	"	ret\n"
	".balign 4096\n"
	".popsection\n");

static void psci(u64 function, u64 a, u64 b, u64 c)
{
	register u64 x0 __asm__("x0") = function;
	register u64 x1 __asm__("x1") = a;
	register u64 x2 __asm__("x2") = b;
	register u64 x3 __asm__("x3") = c;

	__asm__ volatile("hvc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3) : "memory");
}

static void print(const char *text)
{
	while (*text)
		UART = *text++;
}

static void print_number(u32 number)
{
	if (number >= 10)
		print_number(number / 10);
	UART = '0' + number % 10;
}

/* YIELD gives the other CPU its turn where one thread of the host emulates both; elsewhere it does nothing. */
void second(void)
{
	for (;;) {
		u32 got = patched();

		calls++;
		asm_now("yield");
		if (asked == answered)
			continue;
		asm_now("isb");
		for (u32 i = times; i > 0; i--)
			got = patched();
		answer = got;
		asm_now("dmb ish");
		answered = asked;
	}
}

/* What CPU 1 gets from patched() after so many calls. */
static u32 ask(u32 how_many)
{
	times = how_many;
	asm_now("dmb ish");
	asked++;
	while (answered != asked)
		asm_now("yield");
	asm_now("dmb ish");
	return answer;
}

/* The TLBI is what a kernel does that patches through a mapping of its own, made for it and removed again. */
static void patch(u32 instruction)
{
	*(volatile u32 *)patched = instruction;
	__asm__ volatile("dc cvau, %0\n dsb ish\n ic ivau, %0\n dsb ish\n isb" :: "r"(patched) : "memory");
	asm_now("tlbi vmalle1is\n dsb ish\n isb");
}

void first(void)
{
	u32 n, stale = 0, lasting = 0, mended = 0;

	psci(0xc4000003, 1, (u64)second_cpu, (u64)stack[2]); /* CPU_ON */
	for (n = 0; n < PATCHES && stale < ENOUGH; n++) {
		u32 before = calls, right = ~n & 1, instruction = right ? BRANCH : NOP;

		while (calls - before < 20 + n % 64)
			asm_now("yield");
		patch(instruction);
		if (ask(1000) == right)
			continue;
		stale++;
		lasting += ask(1000000) != right;
		patch(instruction);
		mended += ask(1000) == right;
	}
	print_number(n);
	print(" changes, ");
	print_number(stale);
	print(" not seen, of these ");
	print_number(lasting);
	print(" a million calls later, ");
	print_number(stale - mended);
	print(" once written again\n");
	psci(0x84000008, 0, 0, 0); /* SYSTEM_OFF */
}
C
aarch64-linux-gnu-gcc-12 -O2 -Wall -Wextra -Werror -ffreestanding -nostdlib -static -mgeneral-regs-only -fno-pic \
    -Wl,-Ttext=0x40200000,--build-id=none patched.c -o patched
show() {
    printf '%-15s' "thread=$1:"
    timeout 300 qemu-system-aarch64 -L root/usr/share/qemu -M virt -cpu neoverse-n1 -smp 2 -m 64 -nodefaults \
        -display none -serial stdio -accel "tcg,thread=$1" -kernel patched < /dev/null
}
{
    show multi
    show single
} | tee seen
later='a million calls later, 0 once written again'
grep -qxE "thread=multi: +[0-9]+ changes, ([5-9]|[12][0-9]) not seen, of these \1 $later" seen
grep -qx "thread=single: 1000 changes, 0 not seen, of these 0 $later" seen
echo "as described: a CPU goes on executing an instruction that another one has changed"
