#include <stdio.h>
#include <unistd.h>
volatile int done;
static void spin(void) { while (!done) ; }
int main(void) { puts("ready"); fflush(stdout); spin(); puts("done"); return 6; }
