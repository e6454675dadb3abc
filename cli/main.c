#include <stdio.h>

int main(void)
{
    puts("diffscm " DSCM_VERSION);
    return 0;
}
