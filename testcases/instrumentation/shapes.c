// SPDX-License-Identifier: GPL-2.0-only
/*
 * One function of every shape that the compiler or an attribute treats differently: which of them are instrumented
 * is known by name (test_modules.py, test_booted.py).
 */
#include <linux/compiler.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>

int shapes_global(int x);
int shapes_weak(int x);
int shapes_variadic(int count, ...);
int shapes_frame(int x);
int shapes_leaf(int x);
int shapes_notrace(int x);
int shapes_noinstr(int x);
int shapes_asm(int x);

#ifndef noinstr	/* before 5.8 */
#define noinstr noinline notrace
#endif

static volatile int shapes_sink;

noinline int shapes_leaf(int x)
{
	return x + 1;
}

static noinline int __used shapes_static(int x)
{
	shapes_sink = x;
	return shapes_leaf(x) + shapes_sink;
}

noinline int __weak shapes_weak(int x)
{
	shapes_sink = x;
	return x ^ 5;
}

noinline int shapes_variadic(int count, ...)
{
	va_list arguments;
	int sum = 0;

	va_start(arguments, count);
	while (count--)
		sum += va_arg(arguments, int);
	va_end(arguments);
	return sum;
}

noinline int shapes_frame(int x)
{
	volatile int room[64];

	room[x & 63] = x;
	return shapes_leaf(room[(x + 1) & 63]);
}

noinline int shapes_global(int x)
{
	return shapes_static(x) + shapes_weak(x) + shapes_variadic(2, x, 1) + shapes_frame(x);
}

noinline notrace int shapes_notrace(int x)
{
	shapes_sink = x;
	return x - 1;
}

static noinline notrace int __used shapes_static_notrace(int x)
{
	shapes_sink = x;
	return x - 2;
}

/* Its address is taken, so it exists as a function. */
static inline int shapes_inline(int x)
{
	shapes_sink = x;
	return x - 3;
}

noinstr int shapes_noinstr(int x)
{
	return x - 4;
}

asm(".pushsection .text, \"ax\"\n"
    ".balign 8\n"
    ".globl shapes_asm\n"
    ".type shapes_asm, %function\n"
    "shapes_asm:\n"
    "	ret\n"
    ".size shapes_asm, . - shapes_asm\n"
    ".popsection\n");

static int (*volatile shapes_table[])(int x) = {
	shapes_global, shapes_notrace, shapes_static_notrace, shapes_inline, shapes_noinstr,
};

static int __init shapes_init(void)
{
	int sum = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(shapes_table); i++)
		sum += shapes_table[i](i);
	shapes_sink = sum;
	return 0;
}

static void __exit shapes_exit(void)
{
	shapes_sink = 0;
}

module_init(shapes_init);
module_exit(shapes_exit);
MODULE_DESCRIPTION("Functions of every shape, to see which are traced");
MODULE_LICENSE("GPL");
