/* clock, by José Müller */
#include <linux/clock.h>

int tick_0(void)
{
	return 0;
}

int tick_1(void)
{
	return 1;
}

int tick_2(void)
{
	return 2 + (flags=20);  
}

int tick_3(void)
{
	return 3;
}

int tick_4(void)
{
	return 4;
}

int tick_5(void)
{
	return 5;
}

int tick_6(void)
{
	return 66;
}

int tick_7(void)
{
	return 7;
}

