// What the emitted code uses of metal-cpp's Foundation: names and types only, for machines without
// it. Nothing is defined that would run.
#pragma once

namespace NS {

typedef long Integer;
typedef unsigned long UInteger;

template <class Class>
class SharedPtr {
public:
    SharedPtr() = default;
    Class *get() const { return object; }
    Class *operator->() const { return object; }
    explicit operator bool() const { return object != nullptr; }

    Class *object = nullptr;
};

template <class Class>
SharedPtr<Class> RetainPtr(Class *object)
{
    SharedPtr<Class> pointer;
    pointer.object = object;
    return pointer;
}

template <class Class>
SharedPtr<Class> TransferPtr(Class *object)
{
    return RetainPtr(object);
}

enum StringEncoding : UInteger { UTF8StringEncoding = 4 };

class String {
public:
    static String *string(const char *text, StringEncoding encoding);
    const char *utf8String() const;
};

class Error {
public:
    String *localizedDescription() const;
};

} // namespace NS
