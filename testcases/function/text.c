// SPDX-License-Identifier: GPL-2.0-only
/*
 * The instructions that a CPU would execute now.
 *
 * at: "SYMBOL OFFSET COUNT": SYMBOL is a function, or MODULE:FUNCTION; OFFSET in instructions from it, may be
 * negative; it may be an address, too. words: the address, then COUNT instruction words, in hexadecimal.
 */
#include "harness_test.h"

static char symbol[128];
static int offset;
static unsigned int count;

static notrace int store_at(char *line)
{
	return sscanf(line, "%127s %d %u", symbol, &offset, &count) == 3 && count <= 64 ? 0 : -EINVAL;
}

static notrace int show_words(struct seq_file *m, void *unused)
{
	unsigned long address;
	unsigned int i;

	if (kstrtoul(symbol, 16, &address) || !strstarts(symbol, "0x"))
		address = harness_lookup(symbol);
	if (!address)
		return -ENOENT;
	seq_printf(m, "%lx", address);
	for (i = 0; i < count; i++)
		seq_printf(m, " %08x", READ_ONCE(((u32 *)address)[offset + (int)i]));
	seq_putc(m, '\n');
	return 0;
}

static const struct harness_file files[] = {
	{ .name = "at", .store = store_at },
	{ .name = "words", .show = show_words },
	{ }
};

static int __init text_start(void)
{
	return harness_files(files);
}

static void __exit text_stop(void)
{
	harness_files_remove();
}

module_init(text_start);
module_exit(text_stop);
MODULE_DESCRIPTION("reads the kernel's text");
MODULE_LICENSE("GPL");
