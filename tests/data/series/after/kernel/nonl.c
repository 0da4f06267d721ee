int a;
int very_last;