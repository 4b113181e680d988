// MetalPerformancePrimitives.h: stands for Apple's header of this name; see metal_stdlib.
#pragma once
#include <metal4conv_stand_in/matmul2d.h>
#if __has_include(<metal4conv_stand_in/convolution2d.h>)
#include <metal4conv_stand_in/convolution2d.h>
#endif
