package revocation

import (
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A proxy is the path of one replica to the database, which can be made worse. It is our own because toxiproxy, which does
// this and more, brings sixteen modules.
type proxy struct {
	listener net.Listener
	socket   string // the server's

	mu      sync.Mutex // guards what follows
	conns   map[net.Conn]struct{}
	there   time.Duration // the delay of what the replica says
	back    time.Duration // the delay of what the server says
	passing chan struct{} // closed while anything passes
}

// newProxy starts a proxy before the server of a database and returns it and the database's URL through it.
func newProxy(t *testing.T, database string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		listener: listener, socket: filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432"),
		conns: map[net.Conn]struct{}{}, passing: make(chan struct{}),
	}
	close(p.passing)
	go p.accept()
	t.Cleanup(func() {
		listener.Close()
		p.restore()
		p.reset()
	})
	u.Host, u.RawQuery = listener.Addr().String(), "sslmode=disable"
	return p, u.String()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.socket)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		go p.forward(client, server, &p.there)
		go p.forward(server, client, &p.back)
	}
}

// forward passes what one side says on to the other until either has gone.
func (p *proxy) forward(from, to net.Conn, delay *time.Duration) {
	defer p.forget(from, to)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		wait, passing := *delay, p.passing
		p.mu.Unlock()
		time.Sleep(wait)
		<-passing
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
}

// slow delays what passes from now on.
func (p *proxy) slow(there, back time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.there, p.back = there, back
}

// cut lets nothing pass until restore, and tells nobody.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.passing = make(chan struct{})
}

// restore lets pass what cut held back.
func (p *proxy) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.passing:
	default:
		close(p.passing)
	}
}

// reset breaks every connection that is open now, with an RST.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it is closed already
		}
		c.Close()
	}
}
