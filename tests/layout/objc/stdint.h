// Declarations for the checks of emitted code on machines without Apple's headers.
#pragma once
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned int uint32_t;
typedef unsigned char uint8_t;
#define INT64_C(number) number##LL
