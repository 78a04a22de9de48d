/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

int main(void)
{
    fputs("usage: larder COMMAND\n", stderr);
    return 2;
}
