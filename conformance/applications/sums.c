#include <stdio.h>
static int counter;
struct pair { int first; double second; };
static int add(int a, int b)
{
    int sum = a + b;
    counter += sum;
    return sum;
}
int main(int argc, char **argv)
{
    char text[32] = "hello";
    struct pair pair = {3, 1.5};
    int total = 0;
    for (int i = 0; i < 3; i++)
        total += add(i, 10);
    printf("%s %d %d\n", text, total, pair.first);
    fflush(stdout);
    return 4;
}
