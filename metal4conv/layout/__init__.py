from metal4conv.lazy import make_callable

make_callable(__name__, "metal4conv.layout.manifest", "layout")
