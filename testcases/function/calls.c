// SPDX-License-Identifier: GPL-2.0-only
/*
 * Functions to trace, whose arguments, results, callers and callees are known. A read of a file in debugfs calls some
 * of them and prints what came of it, as hexadecimal words; the tests know what that has to be.
 */
#include <linux/irq_work.h>
#include "harness_stack.h"
#include "harness_test.h"

/* Called for real, by the calling convention, whatever the compiler could know of the body. */
#define traced __attribute__((__noinline__)) __used
#define hide(variable) asm volatile("" : "+r"(variable))

struct eight {
	u64 word[8];
};

struct pair {
	u64 first, second;
};

struct eight calls_args(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h);
u64 calls_stack_args(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j);
u64 calls_varargs(int count, ...);
struct pair calls_pair(u64 first, u64 second);
int calls_negative(int value);
u64 calls_wide(u64 value);
u64 calls_tail(u64 value);
u64 calls_tail_goal(u64 value);
u64 calls_factorial(u64 n);
u64 calls_tree_root(u64 value);
u64 calls_tree_left(u64 value);
u64 calls_tree_right(u64 value);
u64 calls_tree_leaf(u64 value);
u64 calls_saved(u64 value);
u64 calls_results(u64 value);
u64 calls_irq(u64 value);
u64 calls_irq_leaf(u64 value);
u64 calls_init_root(u64 value);
u64 calls_init_leaf(u64 value);
unsigned int calls_stack_outer(unsigned long *entries, unsigned int size);
unsigned int calls_stack_middle(unsigned long *entries, unsigned int size);
unsigned int calls_stack_inner(unsigned long *entries, unsigned int size);

/* Eight arguments in x0 to x7, a result in memory at x8: each of them has to survive what traces the call. */
traced struct eight calls_args(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h)
{
	struct eight result = { { a, b, c, d, e, f, g, h } };

	barrier();
	return result;
}

/* Two of ten arguments are on the stack: sp has to be what it was. */
traced u64 calls_stack_args(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f, u64 g, u64 h, u64 i, u64 j)
{
	barrier();
	return a + 3 * b + 5 * c + 7 * d + 11 * e + 13 * f + 17 * g + 19 * h + 23 * i + 29 * j;
}

traced u64 calls_varargs(int count, ...)
{
	u64 sum = 0;
	va_list list;
	int i;

	va_start(list, count);
	for (i = 1; i <= count; i++)
		sum += i * va_arg(list, u64);
	va_end(list);
	return sum;
}

/* A result in x0 and x1. */
traced struct pair calls_pair(u64 first, u64 second)
{
	struct pair result = { ~first, ~second };

	barrier();
	return result;
}

traced int calls_negative(int value)
{
	hide(value);
	return -value;
}

traced u64 calls_wide(u64 value)
{
	hide(value);
	return ~value;
}

traced u64 calls_tail_goal(u64 value)
{
	hide(value);
	return value * 3;
}

/* The compiler jumps to the callee, which returns to our caller. */
traced u64 calls_tail(u64 value)
{
	return calls_tail_goal(value + 1);
}

traced u64 calls_factorial(u64 n)
{
	u64 result = 1;

	if (n > 1)
		result = n * calls_factorial(n - 1);
	hide(result);
	return result;
}

traced u64 calls_tree_leaf(u64 value)
{
	hide(value);
	return value + 1;
}

traced u64 calls_tree_left(u64 value)
{
	value = calls_tree_leaf(value);
	hide(value);
	value = calls_tree_leaf(value);
	hide(value);
	return value + 10;
}

traced u64 calls_tree_right(u64 value)
{
	value = calls_tree_left(value);
	hide(value);
	return value + 100;
}

traced u64 calls_tree_root(u64 value)
{
	value = calls_tree_left(value);
	hide(value);
	value = calls_tree_right(value);
	hide(value);
	return value + 1000;
}

traced u64 calls_irq_leaf(u64 value)
{
	hide(value);
	return value + 1;
}

traced u64 calls_irq(u64 value)
{
	value = calls_irq_leaf(value);
	hide(value);
	return value + 1;
}

traced u64 calls_saved(u64 value)
{
	hide(value);
	return value ^ 0xffff;
}

/* x1 to x7 hold results as well: the kernel's own assembler has such functions, and keeping them is the tracer's duty. */
traced u64 calls_results(u64 value)
{
	register u64 result asm("x0") = value ^ 0xffff;

	asm volatile(
	"	mov	x1, #0x2001\n	mov	x2, #0x2002\n	mov	x3, #0x2003\n	mov	x4, #0x2004\n"
	"	mov	x5, #0x2005\n	mov	x6, #0x2006\n	mov	x7, #0x2007\n"
	: "+r"(result) : : "x1", "x2", "x3", "x4", "x5", "x6", "x7");
	return result;
}

traced unsigned int calls_stack_inner(unsigned long *entries, unsigned int size)
{
	unsigned int found = harness_stack_trace(entries, size);

	hide(found);
	return found;
}

traced unsigned int calls_stack_middle(unsigned long *entries, unsigned int size)
{
	unsigned int found = calls_stack_inner(entries, size);

	hide(found);
	return found;
}

traced unsigned int calls_stack_outer(unsigned long *entries, unsigned int size)
{
	unsigned int found = calls_stack_middle(entries, size);

	hide(found);
	return found;
}

static notrace int show_args(struct seq_file *m, void *unused)
{
	struct eight got = calls_args(0xa0a0a0a0a0a0a0a0, 0xa1a1a1a1a1a1a1a1, 0xa2a2a2a2a2a2a2a2, 0xa3a3a3a3a3a3a3a3,
				      0xa4a4a4a4a4a4a4a4, 0xa5a5a5a5a5a5a5a5, 0xa6a6a6a6a6a6a6a6, 0xa7a7a7a7a7a7a7a7);
	struct pair pair = calls_pair(0x1111, 0x2222);
	int i;

	seq_puts(m, "args");
	for (i = 0; i < 8; i++)
		seq_printf(m, " %llx", got.word[i]);
	seq_printf(m, "\nstack_args %llx\n", calls_stack_args(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
	seq_printf(m, "varargs %llx\n",
		   calls_varargs(10, 1ULL, 2ULL, 3ULL, 4ULL, 5ULL, 6ULL, 7ULL, 8ULL, 9ULL, 10ULL));
	seq_printf(m, "pair %llx %llx\n", pair.first, pair.second);
	seq_printf(m, "negative %d\n", calls_negative(22));
	seq_printf(m, "wide %llx\n", calls_wide(0x0123456789abcdef));
	seq_printf(m, "tail %llx\n", calls_tail(0x100));
	seq_printf(m, "factorial %llx\n", calls_factorial(10));
	seq_printf(m, "tree %llx\n", calls_tree_root(0));
	return 0;
}

static notrace int show_tree(struct seq_file *m, void *unused)
{
	seq_printf(m, "%llx\n", calls_tree_root(0));
	return 0;
}

static notrace int show_factorial(struct seq_file *m, void *unused)
{
	seq_printf(m, "%llx\n", calls_factorial(5));
	return 0;
}

static notrace int show_stack(struct seq_file *m, void *unused)
{
	unsigned long entries[32];
	unsigned int i, found = calls_stack_outer(entries, ARRAY_SIZE(entries));

	for (i = 0; i < found; i++)
		seq_printf(m, "%pS\n", (void *)entries[i]);
	return 0;
}

/*
 * calls_saved() called with every register set: x0 to x8 and x10 to x28 to numbers of their own, the rest to what it
 * is; and with ones on the stack below, so that what a tracer forgets to store can't be right by chance. Afterwards, x19 to x29 and sp have to be the same again; a bit of the result says which one is not.
 */
static struct {
	u64 sp, fp, lr;
} before;

static notrace noinline u64 call_with_registers(void)
{
	register u64 wrong asm("x0");

	asm volatile(
	"	adrp	x9, %[before]\n"
	"	add	x9, x9, :lo12:%[before]\n"
	"	mov	x10, sp\n"
	"	sub	x11, x10, #512\n	mov	x12, #-1\n"
	"2:	stp	x12, x12, [x11], #16\n	cmp	x11, x10\n	b.lo	2b\n"
	"	adr	x11, 1f\n"
	"	stp	x10, x29, [x9]\n"
	"	str	x11, [x9, #16]\n"
	"	mov	x0, #0x1000\n	mov	x1, #0x1001\n	mov	x2, #0x1002\n	mov	x3, #0x1003\n"
	"	mov	x4, #0x1004\n	mov	x5, #0x1005\n	mov	x6, #0x1006\n	mov	x7, #0x1007\n"
	"	mov	x8, #0x1008\n	mov	x10, #0x1010\n	mov	x11, #0x1011\n	mov	x12, #0x1012\n"
	"	mov	x13, #0x1013\n	mov	x14, #0x1014\n	mov	x15, #0x1015\n	mov	x16, #0x1016\n"
	"	mov	x17, #0x1017\n	mov	x19, #0x1019\n	mov	x20, #0x1020\n	mov	x21, #0x1021\n"
	"	mov	x22, #0x1022\n	mov	x23, #0x1023\n	mov	x24, #0x1024\n	mov	x25, #0x1025\n"
	"	mov	x26, #0x1026\n	mov	x27, #0x1027\n	mov	x28, #0x1028\n"
	"	bl	calls_saved\n"
	"1:	mov	x1, #0xefff\n"		/* 0x1000 ^ 0xffff */
	"	cmp	x0, x1\n	cset	x0, ne\n"
	".macro	check register, number, bit\n"
	"	mov	x1, #\\number\n"
	"	cmp	\\register, x1\n"
	"	cset	x1, ne\n"
	"	orr	x0, x0, x1, lsl #\\bit\n"
	".endm\n"
	"	check	x19, 0x1019, 19\n	check	x20, 0x1020, 20\n	check	x21, 0x1021, 21\n"
	"	check	x22, 0x1022, 22\n	check	x23, 0x1023, 23\n	check	x24, 0x1024, 24\n"
	"	check	x25, 0x1025, 25\n	check	x26, 0x1026, 26\n	check	x27, 0x1027, 27\n"
	"	check	x28, 0x1028, 28\n"
	".purgem check\n"
	"	adrp	x9, %[before]\n"
	"	add	x9, x9, :lo12:%[before]\n"
	"	ldp	x10, x11, [x9]\n"
	"	mov	x1, sp\n"
	"	cmp	x1, x10\n	cset	x1, ne\n	orr	x0, x0, x1, lsl #31\n"
	"	cmp	x29, x11\n	cset	x1, ne\n	orr	x0, x0, x1, lsl #29\n"
	: "=r"(wrong)
	: [before] "S"(&before)
	: "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
	  "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30", "cc", "memory");
	return wrong;
}

static notrace int show_saved(struct seq_file *m, void *unused)
{
	u64 wrong = call_with_registers();

	seq_printf(m, "wrong %llx\nsp %llx\nfp %llx\nlr %llx\n", wrong, before.sp, before.fp, before.lr);
	return 0;
}

/* calls_results() called; bit N of the result says that xN is not what it left there. */
static notrace noinline u64 call_for_results(void)
{
	register u64 wrong asm("x0");

	asm volatile(
	"	mov	x0, #0x2000\n"
	"	bl	calls_results\n"
	"	mov	x8, #0\n"
	".macro	check register, number, bit\n"
	"	mov	x9, #\\number\n"
	"	cmp	\\register, x9\n"
	"	cset	x9, ne\n"
	"	orr	x8, x8, x9, lsl #\\bit\n"
	".endm\n"
	"	check	x0, 0xdfff, 0\n	check	x1, 0x2001, 1\n	check	x2, 0x2002, 2\n"
	"	check	x3, 0x2003, 3\n	check	x4, 0x2004, 4\n	check	x5, 0x2005, 5\n"
	"	check	x6, 0x2006, 6\n	check	x7, 0x2007, 7\n"
	".purgem check\n"
	"	mov	x0, x8\n"
	: "=r"(wrong)
	:
	: "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
	  "x30", "cc", "memory");
	return wrong;
}

static notrace int show_results(struct seq_file *m, void *unused)
{
	seq_printf(m, "wrong %llx\n", call_for_results());
	return 0;
}

static u64 irq_result;

static notrace void work_in_irq(struct irq_work *work)
{
	irq_result = hardirq_count() ? calls_irq(0) : 0;
}

static notrace int show_irq(struct seq_file *m, void *unused)
{
	struct irq_work work;

	init_irq_work(&work, work_in_irq);
	irq_result = 0;
	irq_work_queue(&work);
	irq_work_sync(&work);
	seq_printf(m, "%llx\n", irq_result);
	return 0;
}

static struct {
	unsigned long entries[64];
	unsigned int found;
} irq_stack;

static notrace void stack_in_irq(struct irq_work *work)
{
	irq_stack.found = calls_stack_outer(irq_stack.entries, ARRAY_SIZE(irq_stack.entries));
}

/* The way from an interrupt handler back through the task that it interrupted. */
static notrace int show_irq_stack(struct seq_file *m, void *unused)
{
	struct irq_work work;
	unsigned long flags;
	unsigned int i;

	init_irq_work(&work, stack_in_irq);
	irq_stack.found = 0;
	/* taken here, and not somewhere in irq_work_queue(), whose caller may be in the link register only by then */
	local_irq_save(flags);
	irq_work_queue(&work);
	local_irq_restore(flags);
	irq_work_sync(&work);
	for (i = 0; i < irq_stack.found; i++)
		seq_printf(m, "%pS\n", (void *)irq_stack.entries[i]);
	return 0;
}

static u64 init_result;

static notrace int show_init(struct seq_file *m, void *unused)
{
	seq_printf(m, "%llx\n", init_result);
	return 0;
}

traced __init u64 calls_init_leaf(u64 value)
{
	hide(value);
	return value + 7;
}

traced __init u64 calls_init_root(u64 value)
{
	value = calls_init_leaf(value);
	hide(value);
	return value + 7;
}

static const struct harness_file files[] = {
	{ .name = "args", .show = show_args },
	{ .name = "tree", .show = show_tree },
	{ .name = "factorial", .show = show_factorial },
	{ .name = "stack", .show = show_stack },
	{ .name = "saved", .show = show_saved },
	{ .name = "results", .show = show_results },
	{ .name = "irq", .show = show_irq },
	{ .name = "irq_stack", .show = show_irq_stack },
	{ .name = "init", .show = show_init },
	{ }
};

static int __init notrace calls_start(void)
{
	init_result = calls_init_root(0);
	return harness_files(files);
}

static void __exit notrace calls_stop(void)
{
	harness_files_remove();
}

module_init(calls_start);
module_exit(calls_stop);
MODULE_DESCRIPTION("functions to trace, with known arguments, results, callers and callees");
MODULE_LICENSE("GPL");
