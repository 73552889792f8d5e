/* What a program saw, in a form that is the same from run to run. */
#pragma once
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Prints the call, its result, and the error's name if it failed. */
#define CALL(expression) \
    ({ errno = 0; long r_ = (long)(expression); \
       if (r_ == -1) printf("%s = -1 %s\n", #expression, strerrorname_np(errno)); \
       else printf("%s = %ld\n", #expression, r_); r_; })
/* Only whether it worked: for results that differ from run to run. */
#define OK(expression) \
    ({ errno = 0; long r_ = (long)(expression); \
       if (r_ == -1) printf("%s: %s\n", #expression, strerrorname_np(errno)); \
       else printf("%s: ok\n", #expression); r_; })
#define YES(condition) printf("%s: %s\n", #condition, (condition) ? "yes" : "no")
static void __attribute__((constructor)) unbuffered(void) { setvbuf(stdout, NULL, _IOLBF, 0); }
