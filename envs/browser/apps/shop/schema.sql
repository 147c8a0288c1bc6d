-- The shop. Money is in cents, times are the shop's own to the minute.
CREATE TABLE site (now TEXT NOT NULL, secret TEXT NOT NULL);
CREATE TABLE customers (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, password TEXT NOT NULL,
    phone TEXT NOT NULL DEFAULT '', newsletter TEXT NOT NULL DEFAULT 'monthly', joined TEXT NOT NULL,
    default_address INTEGER
);
CREATE TABLE sessions (sid TEXT PRIMARY KEY, user_id INTEGER REFERENCES customers);
CREATE TABLE addresses (
    id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers, label TEXT NOT NULL,
    recipient TEXT NOT NULL, street TEXT NOT NULL, postcode TEXT NOT NULL, city TEXT NOT NULL, country TEXT NOT NULL
);
CREATE TABLE categories (id INTEGER PRIMARY KEY, slug TEXT NOT NULL UNIQUE, name TEXT NOT NULL);
CREATE TABLE products (
    id INTEGER PRIMARY KEY, category_id INTEGER NOT NULL REFERENCES categories, name TEXT NOT NULL UNIQUE,
    brand TEXT NOT NULL, description TEXT NOT NULL, material TEXT NOT NULL, weight_g INTEGER NOT NULL,
    warranty_months INTEGER NOT NULL, care TEXT NOT NULL, added TEXT NOT NULL
);
CREATE TABLE variants (
    id INTEGER PRIMARY KEY, product_id INTEGER NOT NULL REFERENCES products, colour TEXT NOT NULL, size TEXT NOT NULL,
    price INTEGER NOT NULL, stock INTEGER NOT NULL CHECK (stock >= 0), UNIQUE (product_id, colour, size)
);
CREATE TABLE reviews (
    id INTEGER PRIMARY KEY, product_id INTEGER NOT NULL REFERENCES products,
    customer_id INTEGER NOT NULL REFERENCES customers, rating INTEGER NOT NULL, title TEXT NOT NULL,
    body TEXT NOT NULL, created TEXT NOT NULL, UNIQUE (product_id, customer_id)
);
CREATE TABLE wishlist (
    customer_id INTEGER NOT NULL REFERENCES customers, product_id INTEGER NOT NULL REFERENCES products,
    PRIMARY KEY (customer_id, product_id)
);
CREATE TABLE cart_lines (
    customer_id INTEGER NOT NULL REFERENCES customers, variant_id INTEGER NOT NULL REFERENCES variants,
    quantity INTEGER NOT NULL, PRIMARY KEY (customer_id, variant_id)
);
CREATE TABLE shipping_methods (code TEXT PRIMARY KEY, name TEXT NOT NULL, price INTEGER NOT NULL, days TEXT NOT NULL);
CREATE TABLE coupons (code TEXT PRIMARY KEY, percent INTEGER NOT NULL, minimum INTEGER NOT NULL);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers, status TEXT NOT NULL,
    placed TEXT NOT NULL, recipient TEXT NOT NULL, street TEXT NOT NULL, postcode TEXT NOT NULL, city TEXT NOT NULL,
    country TEXT NOT NULL, shipping TEXT NOT NULL REFERENCES shipping_methods, shipping_price INTEGER NOT NULL,
    coupon TEXT, discount INTEGER NOT NULL DEFAULT 0, gift_note TEXT NOT NULL DEFAULT '', total INTEGER NOT NULL
);
CREATE TABLE order_lines (
    id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES orders, variant_id INTEGER NOT NULL REFERENCES variants,
    quantity INTEGER NOT NULL, price INTEGER NOT NULL
);
CREATE TABLE returns (
    id INTEGER PRIMARY KEY, order_line_id INTEGER NOT NULL UNIQUE REFERENCES order_lines, quantity INTEGER NOT NULL,
    reason TEXT NOT NULL, refund TEXT NOT NULL, note TEXT NOT NULL, created TEXT NOT NULL
);
CREATE INDEX reviews_product ON reviews (product_id);
CREATE INDEX variants_product ON variants (product_id);
CREATE INDEX lines_order ON order_lines (order_id);
