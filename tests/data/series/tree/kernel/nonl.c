int a;
int last;